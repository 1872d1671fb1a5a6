package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"app-offload/cmd/offload-lab/internal/answers"
	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/config"
	"app-offload/functions/host"
	"app-offload/functions/status"
)

type runOptions struct {
	bin, res, dir, feed string
	duration            time.Duration
	rate                float64
	seed                uint64
	temporary           bool // the folder is temporary
	models              string
	sheet               *answers.Sheet // nil without models
}

// runVerb starts the whole system, plays the feed, and verifies at the end that nothing is missing.
func runVerb(ctx context.Context, args []string) error {
	var o runOptions
	fs := flags("run")
	fs.StringVar(&o.bin, "bin", "bin", "`folder` with the binaries of make build")
	fs.StringVar(&o.res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&o.dir, "dir", "", "folder for spool, database, log and the feed's ground truth (truth.jsonl); default a temporary folder, kept only after a failure")
	fs.StringVar(&o.feed, "feed", "", "play this file of JSON lines instead of the live feed")
	fs.StringVar(&o.models, "models", "", "folder of models for node and cloud; default models of -res, if it exists; none runs without models")
	fs.DurationVar(&o.duration, "duration", 0, "duration of the feed; 0 runs until Ctrl-C")
	fs.Float64Var(&o.rate, "rate", 1, "multiple of the feed's rate")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the feed's signals")
	if err := parse(fs, args); err != nil {
		return err
	}
	if !(o.rate >= 0.001 && o.rate <= 1e6) { // outside, the interval of events is 0 or overflows
		return fmt.Errorf("-rate %g: must be within 0.001 and 1000000, such as 20", o.rate)
	}
	if o.duration < 0 {
		return fmt.Errorf("-duration %v: must not be below 0, such as 20s", o.duration)
	}
	o.temporary = o.dir == ""
	made, err := makeFolder(&o.dir, "")
	if err != nil {
		return err
	}
	started, err := o.run(ctx)
	switch {
	case err != nil && started: // keep the files for the search
		return fmt.Errorf("all files kept in %s: %w", o.dir, err)
	case made && (err != nil || o.temporary):
		return errors.Join(os.RemoveAll(o.dir), err)
	}
	return err
}

// makeFolder creates the folder of a run, in within if dir is empty, and reports whether the folder is new.
func makeFolder(dir *string, within string) (made bool, err error) {
	if *dir == "" {
		if *dir, err = os.MkdirTemp(within, "offload-lab-"); err != nil {
			return false, fmt.Errorf("creating a folder for the run: %w", err)
		}
		return true, nil
	}
	_, err = os.Stat(*dir)
	made = errors.Is(err, os.ErrNotExist)
	if err := os.MkdirAll(*dir, 0o750); err != nil {
		return false, fmt.Errorf("creating the folder of the run: %w", err)
	}
	return made, nil
}

// usualAPI is the service's default address, so that the README's commands work unchanged.
const usualAPI = "127.0.0.1:59740"

// run reports whether all parts had started; the error before that needs no further search.
func (o *runOptions) run(ctx context.Context) (started bool, err error) {
	log, err := os.OpenFile(filepath.Join(o.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return false, fmt.Errorf("opening the log of the run: %w", err)
	}
	defer log.Close()
	broker, err := stack.StartBroker()
	if err != nil {
		return false, err
	}
	defer broker.Stop()
	env, work, err := o.useModels(broker)
	if err != nil {
		return false, err
	}
	s, err := stack.Start(ctx, stack.Config{
		Bin: o.bin, Res: o.res, Dir: o.dir, Log: log, Bus: stack.Bus{Type: "mqtt", Addr: broker.Addr}, Cloud: broker.Addr, API: usualAPI,
		Env: env, Work: work,
	})
	if err != nil {
		return false, err
	}
	fmt.Printf("page  %[1]s/ui\nAPI   %[1]s/status\nMQTT  mqtt://%s  offload/v1/lab/batch/#\nlog   %s\nseed  %d\n\n", s.API, broker.Addr, log.Name(), o.seed)

	sent, feedErr := o.feedAll(ctx, s, broker)
	received := drain(s, sent)
	stopErr := s.Stop()
	o.printAnswers()
	return true, errors.Join(feedErr, stopErr, verdict(s, broker, sent, received))
}

// feedAll plays the feed and prints a line of figures per second, until the feed ends, Ctrl-C, or a part of the system exits.
func (o *runOptions) feedAll(ctx context.Context, s *stack.Stack, broker *stack.Broker) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sent atomic.Int64
	played := make(chan error, 1)
	go func() { played <- o.play(ctx, broker, &sent) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for start := time.Now(); ; {
		select {
		case err := <-played:
			return sent.Load(), err
		case <-s.Edge.Done():
			cancel()
			<-played
			return sent.Load(), errors.New("app-offload exited unexpectedly")
		case <-s.Cloud.Done():
			cancel()
			<-played
			return sent.Load(), errors.New("offload-cloud exited unexpectedly")
		case <-tick.C:
			o.printFigures(ctx, s, time.Since(start), sent.Load())
		}
	}
}

func (o *runOptions) play(ctx context.Context, broker *stack.Broker, sent *atomic.Int64) error {
	publish := func(topic string, payload []byte) error {
		envelope, err := feed.Envelope(payload, "application/json", fmt.Sprintf("lab-%d", sent.Add(1)))
		if err != nil {
			return err
		}
		return broker.Publish("edgex/"+topic, envelope)
	}
	if o.feed != "" {
		f, err := os.Open(o.feed)
		if err != nil {
			return fmt.Errorf("opening the feed: %w", err)
		}
		defer f.Close()
		if o.duration > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.duration)
			defer cancel()
		}
		return feed.PlayBack(ctx, f, o.rate, func(l feed.Line) error { return publish(l.Topic, l.Payload) })
	}
	node, err := host.New(host.DefaultConfig())
	if err != nil {
		return err
	}
	truth, err := os.OpenFile(filepath.Join(o.dir, "truth.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("opening the file for the ground truth: %w", err)
	}
	defer truth.Close()
	sampling, stop := context.WithCancel(ctx)
	defer stop()
	go node.Run(sampling)
	return feed.Play(ctx, feed.Sources(o.seed, node), o.rate, o.duration, func(m feed.Message) error {
		payload, err := m.Event.Request()
		if err != nil {
			return err
		}
		o.expect(m)
		return errors.Join(feed.WriteTruth(truth, m), publish(m.Topic, payload))
	})
}

func (o *runOptions) printFigures(ctx context.Context, s *stack.Stack, at time.Duration, sent int64) {
	st, err := s.Status(ctx)
	if err != nil {
		fmt.Printf("%5.0fs  no answer: %v\n", at.Seconds(), err)
		return
	}
	c := st.Counts
	link := "down"
	if st.Link.Up {
		link = fmt.Sprintf("up %.1f MB/s %.1f ms", st.Link.Goodput/1e6, st.Link.RTT*1e3)
	}
	fmt.Printf("%5.0fs  events %d  accepted %d  local %d  receipted %d  spooled %d (%.1f MB)  inFlight %d  dropped %d  link %s  cpu %.0f%%  rss %.0f MB  goroutines %d%s\n",
		at.Seconds(), sent, c.Accepted, c.Local, c.Receipted, c.Spooled, float64(st.Spool.Bytes)/1e6, c.InFlight,
		status.Sum(c.Dropped), link, st.Node.CPU, float64(st.Process.RSS)/1e6, st.Process.Goroutines, o.answersLine())
}

// drain waits, for at most ten seconds, until every event of the feed has been received and no task is in flight or in the spool. It returns the
// number of received events.
func drain(s *stack.Stack, sent int64) (received int64) {
	fmt.Println("the feed has ended; waiting for tasks in flight")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		st, err := s.Status(ctx)
		if err != nil {
			return received
		}
		received = int64(st.Events.Received)
		if received >= sent && st.Counts.InFlight+st.Counts.Spooled == 0 {
			return received
		}
		select {
		case <-ctx.Done():
			return received
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// verdict prints the final account of the stopped service as the last line. It fails unless the account balances, every event of the feed was
// received, and every receipted task is in the consumer's database.
func verdict(s *stack.Stack, broker *stack.Broker, sent, received int64) error {
	c, err := s.FinalCounts()
	if err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	defer fmt.Println(string(line))
	if n := broker.Dropped(); n > 0 {
		return fmt.Errorf("the lab's broker dropped %d messages: the rate exceeds the capacity of this machine", n)
	}
	if c.Balance != 0 || c.InFlight != 0 {
		return fmt.Errorf("the account does not balance: balance %d, in flight %d", c.Balance, c.InFlight)
	}
	if received < sent {
		return fmt.Errorf("the feed sent %d events, but only %d were received", sent, received)
	}
	stored, err := s.Stored()
	if err != nil {
		return err
	}
	if stored < c.Receipted {
		return fmt.Errorf("%d tasks count as receipted, but the consumer's database has %d", c.Receipted, stored)
	}
	return nil
}

// modelsEnv is the environment of a run with models, for variables that the user has not set.
var modelsEnv = [][2]string{
	{"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MODEL", "bearing"},
	{"OFFLOAD_WRITABLE_CLASSES_CAMERA_MODEL", "parts"},
	{"OFFLOAD_WRITABLE_CLASSES_CAMERA_HARD", "margin share=0.1 hourly=360 daily=8640"},
}

// cloudModels assigns models to classes in the cloud.
const cloudModels = "vibration=bearing,camera=parts"

// useModels copies the models for node and cloud, since each records its active versions in its folder, and subscribes to answers on the bus. It
// returns the environment and the consumer's arguments, both empty without models.
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
		_ = o.sheet.Seen(payload, time.Now()) // other messages are quarantined by the service
	})
	return env, []string{"-models=" + cloud, "-class-model=" + cloudModels}, err
}

// newSheet creates a sheet with the deadlines of the service's classes.
func newSheet() (*answers.Sheet, error) {
	c := config.Default()
	if _, err := config.ApplyEnv(&c, os.LookupEnv); err != nil {
		return nil, err
	}
	deadlines := map[string]time.Duration{}
	for name, class := range c.Writable.Classes {
		deadlines[name], _ = time.ParseDuration(class.Deadline) // validated by the service
	}
	return answers.New(deadlines), nil
}

// expect records an event whose truth is known.
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

// printAnswers prints the quality of the answers.
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
