package twin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"app-offload/cmd/offload-lab/internal/answers"
	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
)

// LoadConfig is an experiment with models at both ends under several loads.
type LoadConfig struct {
	Bin, Res, Dir string // as in package stack
	Log           io.Writer
	Progress      func(string)

	Models   string    // folder with the cloud's variant of model parts
	Loads    []float64 // multiples of the gateway's own capacity
	Policies []string  // names as in judge.Field
	Duration time.Duration
	Work     time.Duration // time of a run of the gateway's model
	Deadline time.Duration
	Rate     float64 // of the link, bytes/s
	RTT      time.Duration
	Probes   int // single tasks before, per path and run
	Seed     uint64
}

// DefaultLoadConfig has a link of 8 Mbit/s and a gateway that computes 50 pictures per second.
func DefaultLoadConfig() LoadConfig {
	return LoadConfig{
		Loads: []float64{0.5, 1, 1.5, 2}, Policies: []string{"defer", "bandit", "edge", "cloud", "deadline", "article"}, Duration: 2 * time.Minute,
		Work: 20 * time.Millisecond, Deadline: time.Second, Rate: 1e6, RTT: 40 * time.Millisecond, Probes: 8, Seed: 1,
	}
}

// Validate reports every problem.
func (c *LoadConfig) Validate() error {
	var problems []error
	for _, l := range c.Loads {
		if !(l >= 0.05 && l <= 20) {
			problems = append(problems, fmt.Errorf("-loads %g: must be within 0.05–20", l))
		}
	}
	problems = append(problems, known(c.Policies))
	if c.Duration < time.Second || c.Duration > 24*time.Hour {
		problems = append(problems, fmt.Errorf("-duration %v: must be within 1s–24h", c.Duration))
	}
	if c.Work < time.Millisecond || c.Work > time.Second {
		problems = append(problems, fmt.Errorf("-work %v: must be within 1ms–1s", c.Work))
	}
	if c.Deadline < time.Millisecond || c.Deadline > time.Minute {
		problems = append(problems, fmt.Errorf("-deadline %v: must be within 1ms–1m", c.Deadline))
	}
	if c.Probes < 3 || c.Probes > 1000 {
		problems = append(problems, fmt.Errorf("-probes %d: must be within 3–1000", c.Probes))
	}
	if len(c.Policies) == 0 {
		problems = append(problems, errors.New("needs at least one policy"))
	}
	return errors.Join(problems...)
}

// picture is a frame of the camera with its truth.
type picture struct {
	jpeg  []byte
	label string
}

// shot is a picture in flight.
type shot struct {
	profile string
	picture *picture
	device  string
}

// answered is its answer.
type answered struct {
	sent, done time.Time
	cloud      bool
	right      bool
}

// runner executes one run with its own system.
type runner struct {
	c      *LoadConfig
	stack  *stack.Stack
	broker *stack.Broker
	link   *link
	rng    *rand.Rand
	dir    string // folder of the run

	mu     sync.Mutex
	tasks  map[string]*answered
	labels map[string]string
	bytes  map[string]float64
	open   int
	all    []string // ids in order of sending
}

// environment returns the settings of the service: the models of the run, and no limit that would cut or drop a picture.
func (c *LoadConfig) environment(dir, link string, queue int) []string {
	env := []string{
		"OFFLOAD_MODELS_DIRECTORY=" + filepath.Join(dir, "edge"), "OFFLOAD_DECISIONLOG=" + filepath.Join(dir, decisions), "OFFLOAD_MODELS_CACHEMIB=1280", "OFFLOAD_EXPORT_BROKER=tcp://" + link, "OFFLOAD_SEAL_FORM=protobuf",
		fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSEED=%d", c.Seed), fmt.Sprintf("OFFLOAD_MODELS_POOL_QUEUETASKS=%d", queue),
		"OFFLOAD_WRITABLE_CLASSES_VIBRATION_POLICY=edge", "OFFLOAD_WRITABLE_CLASSES_CAMERA_POLICY=cloud",
	}
	for _, class := range []string{"DEFAULT", "VIBRATION", "CAMERA"} {
		at := "OFFLOAD_WRITABLE_CLASSES_" + class
		env = append(env, at+"_MODEL="+loadModel, at+"_CHUNKSIZE=-1", at+"_OPERATORS=none", fmt.Sprintf("%s_DEADLINE=%v", at, c.Deadline))
	}
	return env
}

const (
	decisions  = "decisions" // folder of the decision log within that of the run
	loadModel  = "parts"
	cloudTasks = "default=parts,vibration=parts,camera=parts"
	longQueue  = 50_000 // a purely local policy keeps its tasks, however late
)

// start starts a system for a run.
func (c *LoadConfig) start(ctx context.Context, name, policy string, shown []picture) (_ *runner, err error) {
	dir := filepath.Join(c.Dir, name)
	r := &runner{c: c, rng: rand.New(rand.NewPCG(c.Seed, liveSeed)), tasks: map[string]*answered{}, labels: map[string]string{}, bytes: map[string]float64{}, dir: dir}
	if err := os.RemoveAll(dir); err != nil { // from an earlier run
		return nil, err
	}
	for _, side := range []string{"edge", "cloud"} { // each records its active version in its folder
		if err := os.CopyFS(filepath.Join(dir, side), os.DirFS(filepath.Join(c.Dir, "models-"+side))); err != nil {
			return nil, fmt.Errorf("copying the models: %w", err)
		}
	}
	if r.broker, err = stack.StartBroker(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.link, err = newLink(r.broker.Addr, c.Rate, c.RTT); err != nil {
		return nil, err
	}
	if err := r.broker.Subscribe("edgex/events/device/app-offload/#", r.seen); err != nil {
		return nil, err
	}
	contestant, err := configured(policy)
	if err != nil {
		return nil, err
	}
	queue := 64 // as shipped
	if policy == "edge" {
		queue = longQueue
	}
	r.stack, err = stack.Start(ctx, stack.Config{
		Bin: c.Bin, Res: c.Res, Dir: dir, Log: c.Log, Bus: stack.Bus{Type: "mqtt", Addr: r.broker.Addr}, Cloud: r.broker.Addr,
		Env:  append(c.environment(dir, r.link.Addr, queue), contestant...),
		Work: []string{"-models=" + filepath.Join(dir, "cloud"), "-class-model=" + cloudTasks},
	})
	if err == nil {
		err = r.warm(ctx, shown)
	}
	return r, err
}

// warm waits for the link, without which no task is sent, and sends single tasks until one is answered locally: the first answers may find the
// service still connecting to its bus, and go to the cloud. None of them counts.
func (r *runner) warm(ctx context.Context, shown []picture) error {
	if err := r.linked(ctx); err != nil {
		return err
	}
	picture := &shown[0]
	for range 30 {
		id, err := r.send(&shot{profile: hereProfile, picture: picture, device: "single"})
		if err == nil {
			err = r.wait(ctx, 10*time.Second)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		t := *r.tasks[id]
		r.all = nil
		r.mu.Unlock()
		if !t.done.IsZero() && !t.cloud {
			return nil
		}
	}
	return errors.New("the gateway answers no task itself; the log has the reason")
}

// linked waits for the link: without it no task is sent.
func (r *runner) linked(ctx context.Context) error {
	for begin := time.Now(); time.Since(begin) < 30*time.Second; {
		if st, err := r.stack.Status(ctx); err == nil && st.Link.Up {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("the service found no link within 30 s; the log has the reason")
}

func (r *runner) close() {
	if r.stack != nil {
		_ = r.stack.Stop() // tasks in flight have had enough time
	}
	if r.link != nil {
		r.link.Close()
	}
	_ = r.broker.Stop()
}

// seen takes the service's messages.
func (r *runner) seen(_ string, payload []byte) {
	at := time.Now()
	a, ok, err := answers.Read(payload)
	if err != nil || !ok || a.Provisional {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tasks[a.About]; t != nil && t.done.IsZero() {
		t.done, t.cloud, t.right = at, a.By == "cloud", a.Label == r.labels[a.About]
		r.open--
	}
}

// send publishes a picture.
func (r *runner) send(s *shot) (id string, err error) {
	id = randomID(r.rng)
	now := time.Now()
	e := feed.Event{
		APIVersion: "v3", ID: id, Device: s.device, Profile: s.profile, Source: "Frame", Origin: now.UnixNano(),
		Readings: []feed.Reading{{
			ID: id, Origin: now.UnixNano(), Device: s.device, Resource: "Frame", Profile: s.profile, Type: "Binary", BinaryValue: s.picture.jpeg, MediaType: "image/jpeg",
		}},
	}
	request, err := e.Request()
	if err != nil {
		return "", err
	}
	payload, err := feed.Envelope(request, "application/json", id)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	r.tasks[id], r.labels[id] = &answered{sent: now}, s.picture.label
	r.bytes[id] = float64(len(request))
	r.all = append(r.all, id)
	r.open++
	r.mu.Unlock()
	return id, r.broker.Publish(fmt.Sprintf("edgex/events/device/device-twin/%s/%s/Frame", s.profile, s.device), payload)
}

// wait returns when every task has its answer, or after that time.
func (r *runner) wait(ctx context.Context, most time.Duration) error {
	for begin := time.Now(); time.Since(begin) < most; {
		r.mu.Lock()
		open := r.open
		r.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.stack.Edge.Done():
			return errors.New("app-offload exited unexpectedly")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
