package infer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/infer/modeltest"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
	"app-offload/functions/models/hard"
	"app-offload/functions/task"
)

// lines is a log that records information and warnings.
type lines struct {
	noLog
	mu   sync.Mutex
	list []string
}

func (l *lines) Infof(format string, a ...any) { l.add("INFO "+format, a...) }
func (l *lines) Warnf(format string, a ...any) { l.add("WARN "+format, a...) }

func (l *lines) add(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, a...))
}

func (l *lines) with(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// A delivery over the wire ends with the installed model and logs it. A problem is logged once, and nothing after the end.
func TestDeliveriesInstallModels(t *testing.T) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	b := openRoom(t, func(c *Config, _ *task.ClassConfig) { c.Keys, c.Delivery = public.String(), true })
	log, wants := &lines{}, make(chan []byte, 100)
	d, err := b.Deliveries("n1", func(topic string, message []byte) {
		require.Equal(t, delivery.WantTopic("n1"), topic)
		wants <- message
	}, log)
	require.NoError(t, err)
	require.Empty(t, d.Progress())
	for range 3 {
		d.Take([]byte("rubbish"))
	}
	require.Eventually(t, func() bool { return log.with("delivering a model failed") == 1 }, time.Minute, time.Millisecond)

	source := t.TempDir()
	modeltest.Put(t, source, "bearing", "2", modeltest.Two(t, 1))
	folders, err := filepath.Glob(source + "/*")
	require.NoError(t, err)
	manifest, err := os.ReadFile(folders[0] + "/" + models.ManifestFile)
	require.NoError(t, err)
	m, err := models.ParseManifest(manifest)
	require.NoError(t, err)
	file, err := os.ReadFile(folders[0] + "/" + m.File)
	require.NoError(t, err)
	sender, err := delivery.NewSender(manifest, minisign.Sign(private, manifest), bytes.NewReader(file), 1024, false)
	require.NoError(t, err)
	d.Take(sender.Offer())
	for state := delivery.Wanted; state != delivery.Installed; {
		want, err := delivery.DecodeWant(<-wants)
		require.NoError(t, err)
		state = want.State
		for chunk, err := range sender.Answer(want) {
			require.NoError(t, err)
			d.Take(chunk)
		}
	}
	require.NotNil(t, b.Stats())
	require.Eventually(t, func() bool { return log.with("delivered model installed: id=") == 1 }, time.Minute, time.Millisecond)
	v, _, _ := b.Store().Measured("bearing")
	require.Equal(t, models.Version("2"), v)
	require.NoError(t, d.Close(t.Context()))
	d.report(t.Context(), nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d.report(ended, errors.New("something else"))
	require.Equal(t, 1, log.with("delivering a model failed"))
	d.report(t.Context(), errors.New("something else"))
	require.Equal(t, 2, log.with("delivering a model failed"))
}

// Deliveries are accepted only with a folder of models and a configuration that enables them.
func TestDeliveriesAreWanted(t *testing.T) {
	for name, change := range map[string]func(c *Config, class *task.ClassConfig){
		"no folder": func(c *Config, class *task.ClassConfig) { c.Directory, c.Delivery, class.Model = "", true, "" },
		"not so":    func(c *Config, _ *task.ClassConfig) { c.Delivery = false },
	} {
		b := openRoom(t, change)
		d, err := b.Deliveries("n1", nil, noLog{})
		require.NoError(t, err, name)
		require.Nil(t, d, name)
	}
}

// If the operators fail, the model does not run: its place is released, and the task reports the failure.
func TestAFailedOperatorGivesThePlaceBack(t *testing.T) {
	b := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Operators = "rate; deadtime time=1ms" })
	b.bus.err = errors.New("the bus is away")
	var failed *local.PublishError
	require.ErrorAs(t, b.process(t, local.Item{Task: b.task("pump", sure)})[0], &failed)
	require.Equal(t, "Vibration_deadtime", failed.Source)
	tasks, _ := b.Models()
	require.Zero(t, tasks)
	require.False(t, b.ModelsFull())
	require.Zero(t, b.Stats().Classes[0].Final+b.Stats().Classes[0].Failed)
}

// An answer that the bus rejects is offered again after a pause, but not once the room is closing.
func TestAnAnswerIsOfferedAgain(t *testing.T) {
	for closing, tries := range map[bool]int{false: publishTries, true: 1} {
		synctest.Test(t, func(t *testing.T) {
			b := &bus{err: errors.New("gone")}
			r := &Room{deps: Deps{Publisher: b}}
			r.ctx, r.cancel = context.WithCancel(t.Context())
			if closing {
				r.cancel()
			}
			began := time.Now()
			var failed *local.PublishError
			r.Publish(answer.Of(&task.Task{Device: "d", Of: 1}, 1, answer.Local, models.Answer{Model: "m", Values: []float64{1}}), true, func(err error) { require.ErrorAs(t, err, &failed) })
			require.ErrorIs(t, failed, b.err)
			require.Equal(t, tries, b.tries)
			require.Equal(t, time.Duration(tries-1)*publishPause, time.Since(began))
			r.cancel()
		})
	}
}

// While the bus is unavailable, the answer to a task that must stay waits for it. Once the room is closing, the task is returned to its sender.
func TestAnAnswerThatMustStayWaitsForTheBus(t *testing.T) {
	for _, end := range []func(b *bench) error{nil, func(b *bench) error { return b.Shut(context.Background()) }, func(b *bench) error {
		b.StopWaiting()
		return nil
	}} {
		b := openRoom(t, nil)
		b.bus.fail(fmt.Errorf("connecting: %w", local.ErrAway))
		ended := make(chan error, 1)
		go func() { ended <- b.process(t, local.Item{Task: b.task("pump", sure), Stay: true})[0] }()
		require.Eventually(t, func() bool { return b.bus.tried() > publishTries }, time.Minute, time.Millisecond)
		if end != nil {
			require.NoError(t, end(b))
			require.ErrorIs(t, <-ended, local.ErrClosed)
			require.Zero(t, b.Stats().Classes[0].Failed)
			continue
		}
		b.bus.fail(nil)
		require.NoError(t, <-ended)
		require.Len(t, b.bus.results, 1)
	}
}

// A bus that returns may fail again at once: the attempts while it was away do not count.
func TestAnAnswerHasItsTriesOnceTheBusIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, broken := fmt.Errorf("connecting: %w", local.ErrAway), errors.New("broken pipe")
		script := []error{away, away, away, away, broken, broken, away, broken, nil}
		r := &Room{Processor: &local.Processor{}, deps: Deps{Publisher: publishes(func(local.Result) (err error) {
			err, script = script[0], script[1:]
			return err
		})}}
		r.ctx, r.cancel = context.WithCancel(t.Context())
		defer r.cancel()
		r.Publish(answer.Of(&task.Task{Device: "d", Of: 1}, 1, answer.Local, models.Answer{Model: "m", Values: []float64{1}}), true, func(err error) { require.NoError(t, err) })
		require.Empty(t, script)
	})
}

// An answer that is sent to the cloud is sent once, however often the bus does not take it. Its task waits until it is durable, the model does not.
func TestAnAnswerIsSentOnceAndDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []local.Result
		tries := 0
		r := &Room{deps: Deps{Publisher: publishes(func(one local.Result) error {
			if one.Ending.Delay(one.Event.Id) {
				sent = append(sent, one)
			}
			if tries++; tries < publishTries {
				return errors.New("broken pipe")
			}
			return nil
		})}, ctx: t.Context()}
		disk, ended := errors.New("disk"), make(chan error, 1)
		r.Publish(answer.Of(&task.Task{Device: "d", Of: 1}, 1, answer.Local, models.Answer{Model: "m", Values: []float64{1}}), false, func(err error) { ended <- err })
		require.Equal(t, publishTries, tries)
		require.Len(t, sent, 1)
		require.Empty(t, ended)
		sent[0].Ending.Done(disk)
		require.ErrorIs(t, <-ended, disk)
	})
}

type publishes func(local.Result) error

func (f publishes) Publish(r local.Result) error { return f(r) }

// Each scan of the folder of models logs its problems, and nothing if all is well or the service is stopping.
func TestTheLookSaysWhatIsWrong(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir, log := t.TempDir(), &lines{}
			cfg := models.DefaultConfig()
			cfg.Dir = dir + "/models"
			require.NoError(t, os.Mkdir(cfg.Dir, 0o700))
			store, err := models.Open(t.Context(), cfg, nil)
			require.NoError(t, err)
			r := &Room{store: store, deps: Deps{Log: log}}
			r.ctx, r.cancel = context.WithCancel(t.Context())
			w := &work{rule: &rule{budget: hard.NewBudget(10, 10, nil)}}
			r.works.Store(&map[string]*work{"c": w})
			r.looks.Go(r.look)
			if broken {
				require.NoError(t, os.RemoveAll(cfg.Dir))
			}
			w.spend()
			time.Sleep(3*lookEvery + 1)
			synctest.Wait()
			r.cancel()
			r.looks.Wait()
			if broken {
				require.GreaterOrEqual(t, log.with("WARN models: "), 2)
			} else {
				require.Empty(t, log.list)
			}
			_ = store.Close(t.Context())
		})
	}
}

// Drift is watched on the embedding of answers, or else on their error, or else on the free energy of their logits.
func TestWhatDriftIsWatchedOn(t *testing.T) {
	noise := func(n int) float64 { return math.Sin(float64(n) * 1.7) }
	for name, c := range map[string]struct {
		gives func(n int, shift float64) models.Answer
		moves bool
	}{
		"the embedding": {func(n int, s float64) models.Answer {
			return models.Answer{Embedding: []float64{noise(n) + s, 1}, Threshold: 1, Error: noise(n), Logits: []float64{noise(n), 1}}
		}, true},
		"the error beside an embedding": {func(n int, s float64) models.Answer {
			return models.Answer{Embedding: []float64{noise(n), 1}, Threshold: 1, Error: noise(n) + s, Logits: []float64{noise(n) + s, 1}}
		}, false},
		"the error": {func(n int, s float64) models.Answer {
			return models.Answer{Threshold: 0.5, Error: noise(n) + s, Logits: []float64{noise(n), 1}}
		}, true},
		"logits beside an error": {func(n int, s float64) models.Answer {
			return models.Answer{Threshold: 0.5, Error: noise(n), Logits: []float64{noise(n) + s, 1}}
		}, false},
		"an error without a threshold": {func(n int, s float64) models.Answer {
			return models.Answer{Error: noise(n) + s, Logits: []float64{noise(n), 1}}
		}, false},
		"the logits": {func(n int, s float64) models.Answer { return models.Answer{Logits: []float64{noise(n) + s, 1 + s}} }, true},
		"nothing":    {func(n int, s float64) models.Answer { return models.Answer{Values: []float64{noise(n) + s}} }, false},
	} {
		d := &drift{}
		for n := range 3000 {
			a := c.gives(n, 0)
			d.see(&a)
		}
		before, is := d.status()
		require.False(t, is, name)
		for n := range 3000 {
			a := c.gives(n, 10)
			d.see(&a)
		}
		after, is := d.status()
		require.Equal(t, c.moves, is, name)
		require.Equal(t, c.moves, after > before+1, "%s: %v, then %v", name, before, after)
		a := c.gives(0, 0)
		a.Version = "2"
		d.see(&a)
		_, is = d.status()
		require.False(t, is && c.moves, "%s: a new version begins anew", name)
	}
}

// A task goes to the cloud without a run only if a rule judges before the run, its device was hard lately, the link is up and the budget is not used up.
func TestWhichTasksAreJudged(t *testing.T) {
	b := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Hard = "margin threshold=0.2 mode=judge hourly=100" })
	w := b.work(b.class)
	require.False(t, b.Judges(b.task("pump", unsure)), "nothing is known of it")
	for range 3 {
		w.judge.see("pump", true)
	}
	require.True(t, b.Judges(b.task("pump", unsure)))
	b.linkUp = false
	require.False(t, b.Judges(b.task("pump", unsure)))
	b.linkUp = true
	require.True(t, b.Judges(b.task("pump", unsure)))
	require.False(t, b.Judges(b.task("other", unsure)))
	require.EqualValues(t, 2, b.Stats().Classes[0].Judged)
	later := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Hard = "margin threshold=0.2" })
	require.False(t, later.Judges(later.task("pump", unsure)), "it judges answers")
}

// A failure to open is an error with the reason, and leaves no room behind.
func TestARoomThatCannotBeOpened(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Directory = t.TempDir()
	require.NoError(t, os.WriteFile(cfg.Directory+"/state.json", []byte("{"), 0o600))
	r, err := Open(t.Context(), cfg, classes{}, Deps{Log: noLog{}})
	require.Error(t, err)
	require.Nil(t, r)
}

// stub is a model that fails, panics or answers as configured.
type stub func(ctx context.Context) (models.Answer, error)

func (s stub) Run(ctx context.Context, _ *task.Task) (models.Answer, error) { return s(ctx) }

// A run interrupted by the end counts as a refusal by the pool, any other failure as the model's, and an answer counts even after the end has begun.
func TestHowARunEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		model        stub
		ends         bool
		want         string
		busy, failed uint64
	}{
		"fails":           {func(context.Context) (models.Answer, error) { return models.Answer{}, broken }, false, "broken", 0, 1},
		"panics":          {func(context.Context) (models.Answer, error) { panic("unlucky") }, false, "model bearing panicked on event", 0, 1},
		"is cut short":    {func(ctx context.Context) (models.Answer, error) { return models.Answer{}, ctx.Err() }, true, local.ErrShut.Error(), 1, 0},
		"no valid answer": {func(context.Context) (models.Answer, error) { return models.Answer{}, nil }, false, "the answer of model bearing: ", 0, 1},
		"just ends": {func(context.Context) (models.Answer, error) {
			return models.Answer{Model: "bearing", Version: "1", Resource: "Vibration", Label: "ok", Confidence: 1, Embedding: []float64{1}}, nil
		}, true, "", 0, 0},
	} {
		b := openRoom(t, nil)
		w := b.work(b.class)
		w.inference = c.model
		if c.ends {
			b.cancel()
		}
		a, _, err := b.compute(w, &local.Item{Task: b.task("pump", sure)})
		if c.want == "" {
			require.NoError(t, err, name)
			require.Equal(t, "ok", a.Label)
			require.NotNil(t, w.drift.watch, "it is watched for drift")
		} else {
			require.ErrorContains(t, err, c.want, name)
			require.Nil(t, a)
		}
		s := b.Stats().Classes[0]
		require.Equal(t, [2]uint64{c.busy, c.failed}, [2]uint64{s.Busy, s.Failed}, name)
	}
	_, err := (&Room{}).runCanary(&work{}, &task.Task{})
	require.ErrorContains(t, err, "panicked", "a canary's panic is its failure")
}

// A run that the end of the service cuts off says nothing about a canary.
func TestACanaryIsNotJudgedAtAStop(t *testing.T) {
	b := openRoom(t, nil)
	modeltest.Put(t, b.cfg.Directory, "bearing", "2", modeltest.Two(t, 0))
	require.NoError(t, b.Store().Scan(t.Context()))
	w, one := b.work(b.class), b.task("pump", sure)
	a, _, err := b.compute(w, &local.Item{Task: one})
	require.NoError(t, err)
	b.cancel()
	b.try(w, one, a)
	require.Empty(t, b.Stats().Canaries)
}

// A class without a model has no known speed.
func TestAClassWithoutAModel(t *testing.T) {
	b := openRoom(t, nil)
	for _, c := range []*task.Class{nil, {Name: "bearing"}} {
		seconds, known := b.Seconds(c)
		require.False(t, known)
		require.Zero(t, seconds)
	}
	_, known := b.Seconds(b.class)
	require.True(t, known)
}

// A new version computes the tasks that the version in force has answered, while the pool has no backlog, until its trial is over.
func TestANewVersionIsTried(t *testing.T) {
	for name, c := range map[string]struct {
		file     []byte
		waiting  int // places whose tasks the operators still process
		version  models.Version
		canaries []string // states
	}{
		"as good":                  {modeltest.Two(t, 0), 0, "2", []string{TrialPromoted}},
		"cannot read the events":   {modeltest.Slow(t, 8, 1), 0, "1", []string{TrialRolledBack}},
		"one task may wait":        {modeltest.Two(t, 0), 1, "2", []string{TrialPromoted}},
		"the pool has no time now": {modeltest.Two(t, 0), 2, "1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := openRoom(t, func(c *Config, _ *task.ClassConfig) {
				c.Canary = CanaryConfig{Tasks: fewestPairs, Disagreement: 0.2, Slower: 1000}
			})
			modeltest.Put(t, b.cfg.Directory, "bearing", "2", c.file)
			require.NoError(t, b.Store().Scan(t.Context()))
			w := b.work(b.class)
			for range c.waiting {
				require.NoError(t, b.pool.Take(t.Context(), 1, false))
			}
			for range fewestPairs {
				one := b.task("pump", sure)
				a, _, err := b.compute(w, &local.Item{Task: one})
				require.NoError(t, err)
				b.try(w, one, a)
			}
			v, _, _ := b.Store().Measured("bearing")
			require.Equal(t, c.version, v)
			var states []string
			for _, s := range b.Stats().Canaries {
				states = append(states, s.State)
			}
			require.Equal(t, c.canaries, states)
		})
	}
}
