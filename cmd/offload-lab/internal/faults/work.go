package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
)

// killsWork is the kind with models: the cloud answers every event, and each answer arrives on the MessageBus as one event.
const killsWork = "kill-work"

// work is the computing part with its results.
type work struct {
	dir    string         // of the models
	worker *stack.Process // a separate process beside the consumer, on PostgreSQL; nil on SQLite, where the consumer computes
	client mqtt.Client

	mu    sync.Mutex
	finds map[string]map[string]int // counts of each answer, by the event answered and the answer's id
	again int                       // answers seen more than once with one id, after a kill between the publish and its record
}

// startWork writes the model and subscribes to the MessageBus.
func (s *system) startWork(context.Context) error {
	if !s.cfg.work {
		return nil
	}
	w := &work{dir: filepath.Join(s.cfg.Dir, "models"), finds: map[string]map[string]int{}}
	if err := writeModel(w.dir); err != nil {
		return err
	}
	w.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.bus.addr).SetClientID("answers").SetCleanSession(false).SetResumeSubs(true).
		SetAutoReconnect(true).SetMaxReconnectInterval(time.Second).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { w.see(m.Payload()) }))
	for _, do := range []func() mqtt.Token{w.client.Connect, func() mqtt.Token { return w.client.Subscribe("edgex/events/device/app-offload/#", 1, nil) }} {
		if err := done(do()); err != nil {
			return fmt.Errorf("listening to the MessageBus for answers: %w", err)
		}
	}
	s.work = w
	return nil
}

// writeModel writes a model that answers 2·x + 1 for the pressure x of an event.
func writeModel(dir string) error {
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 1}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 1}})
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{x, w.Floats("w", []float32{2}, 1, 1), w.Floats("b", []float32{1}, 1)}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	if err != nil {
		return fmt.Errorf("writing the model: %w", err)
	}
	m, err := models.Describe("double", file, 64<<20)
	if err != nil {
		return fmt.Errorf("writing the model: %w", err)
	}
	m.Variant, m.Classes, m.Input.Resource = models.Cloud, []string{"default", "camera"}, "Pressure"
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing the model: %w", err)
	}
	folder := filepath.Join(dir, m.Folder())
	return errors.Join(os.MkdirAll(folder, 0o750), os.WriteFile(filepath.Join(folder, models.ManifestFile), text, 0o600),
		os.WriteFile(filepath.Join(folder, m.File), file, 0o600))
}

// args are additional arguments of the consumer.
func (w *work) args() []string {
	if w == nil {
		return nil
	}
	return []string{"-models", w.dir, "-lease", "2s", "-tries", "100"}
}

// startWorker starts the computing process, on PostgreSQL.
func (s *system) startWorker(context.Context) (err error) {
	if s.work == nil || s.postgres == nil {
		return nil
	}
	s.work.worker, err = stack.StartProgram("offload-cloud", s.files["worker"], nil, filepath.Join(s.cfg.Bin, "offload-cloud"), append([]string{"work", "-store", s.store}, s.work.args()...)...)
	return err
}

func (w *work) end() {
	if w == nil {
		return
	}
	if w.worker != nil {
		w.worker.Kill()
	}
	w.client.Disconnect(250)
}

// see records an event of the MessageBus.
func (w *work) see(envelope []byte) {
	var e struct {
		Payload []byte `json:"payload"`
	}
	var request struct {
		Event struct {
			ID   string            `json:"id"`
			Tags map[string]string `json:"tags"`
		} `json:"event"`
	}
	if json.Unmarshal(envelope, &e) != nil || json.Unmarshal(e.Payload, &request) != nil || request.Event.Tags["computedBy"] == "" {
		return
	}
	about := request.Event.Tags["originEventId"]
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finds[about] == nil {
		w.finds[about] = map[string]int{}
	}
	if w.finds[about][request.Event.ID]++; w.finds[about][request.Event.ID] > 1 {
		w.again++
	}
}

// answers counts the answered events, and returns an event with several answers.
func (w *work) answers() (events int, several string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for about, ids := range w.finds {
		if len(ids) > 1 {
			several = about
		}
	}
	return len(w.finds), several
}

// answered waits until every acknowledged event has exactly one answer on the MessageBus.
func (s *system) answered(ctx context.Context, want int) error {
	if s.work == nil {
		return nil
	}
	got := 0
	err := s.advancing(ctx, func() (bool, int, error) {
		got, _ = s.work.answers()
		return got >= want, got, nil
	})
	if errors.Is(err, errStuck) {
		s.violate("%d of %d events have an answer on the MessageBus; the consumer knows %s; app-offload says %s", got, want, s.stats(ctx), s.status(ctx))
		return fmt.Errorf("%d events have no answer", want-got)
	}
	if _, several := s.work.answers(); several != "" {
		s.violate("event %s has several answers on the MessageBus", several)
	}
	s.report.Answers, s.report.AnswersAgain = got, s.work.again
	return err
}

// killWork kills any of worker, consumer and app-offload, in any order, while answers are in flight.
func (s *system) killWork(ctx context.Context) error {
	victims := []step{s.killWorker, s.killCloud, s.killEdge}
	s.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for _, kill := range victims[:1+s.random.IntN(len(victims))] {
		if err := inTurn(ctx, s.pausing(2*time.Second), kill); err != nil {
			return err
		}
	}
	return nil
}

// killWorker kills the computing process: the worker, or else the consumer.
func (s *system) killWorker(ctx context.Context) error {
	w := s.work.worker
	if w == nil {
		return s.killCloud(ctx)
	}
	if !w.Kill() {
		return unexpected("the worker", w)
	}
	s.report.Kills.Cloud++
	return inTurn(ctx, s.pausing(away), s.startWorker)
}
