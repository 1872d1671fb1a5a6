package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/answers"
	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/config"
)

// modelsEnv is what a run with models sets beyond the shipped configuration, as far as its user has not.
var modelsEnv = [][2]string{
	{"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MODEL", "bearing"},
	{"OFFLOAD_WRITABLE_CLASSES_CAMERA_MODEL", "parts"},
	{"OFFLOAD_WRITABLE_CLASSES_CAMERA_HARD", "margin share=0.1 hourly=360 daily=8640"},
}

// cloudModels says which model the cloud computes with on which class.
const cloudModels = "vibration=bearing,camera=parts"

// useModels gives node and cloud each a copy of the models, since each keeps there which version is in force, and watches the bus for
// answers. It returns what the parts are started with: nothing where there are no models.
func (o *runOptions) useModels(broker *stack.Broker) (env, work []string, err error) {
	from := o.models
	if from == "" {
		from = filepath.Join(o.res, "models")
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
	}
	if from == "none" {
		return nil, nil, nil
	}
	edge, cloud := filepath.Join(o.dir, "models-edge"), filepath.Join(o.dir, "models-cloud")
	for _, to := range []string{edge, cloud} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, nil, fmt.Errorf("copying the models of %s: %w", from, err)
		}
	}
	if _, set := os.LookupEnv("OFFLOAD_MODELS_DIRECTORY"); !set {
		env = append(env, "OFFLOAD_MODELS_DIRECTORY="+edge)
	}
	for _, v := range modelsEnv {
		if _, set := os.LookupEnv(v[0]); !set {
			env = append(env, v[0]+"="+v[1])
		}
	}
	if o.sheet, err = newSheet(); err != nil {
		return nil, nil, err
	}
	err = broker.Subscribe("edgex/events/device/app-offload/#", func(_ string, payload []byte) {
		_ = o.sheet.Seen(payload, time.Now()) // the service quarantines other messages
	})
	return env, []string{"-models=" + cloud, "-class-model=" + cloudModels}, err
}

// newSheet knows the deadlines of the classes as the service has them.
func newSheet() (*answers.Sheet, error) {
	c := config.Default()
	if _, err := config.ApplyEnv(&c, os.LookupEnv); err != nil {
		return nil, err
	}
	deadlines := map[string]time.Duration{}
	for name, class := range c.Writable.Classes {
		deadlines[name], _ = time.ParseDuration(class.Deadline) // the service checks it
	}
	return answers.New(deadlines), nil
}

// expect notes an event of which the truth is known.
func (o *runOptions) expect(m feed.Message) {
	if o.sheet != nil && m.Event.Truth != nil {
		o.sheet.Sent(m.Event.Truth.Event, m.Event.Truth.Label, time.Now())
	}
}

func (o *runOptions) answersLine() string {
	if o.sheet == nil {
		return ""
	}
	return o.sheet.Line()
}

// printAnswers prints what the answers were worth.
func (o *runOptions) printAnswers() {
	if o.sheet == nil {
		return
	}
	fmt.Print("\n", o.sheet.Table())
	if n := o.sheet.Twice(); n > 0 {
		fmt.Printf("%d events had more than one final answer\n", n)
	}
	fmt.Println()
}
