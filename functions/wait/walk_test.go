package wait

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// world is everything a pool works with. It records what the pool does, and fails the test if that happens twice or must not happen.
type world struct {
	*testing.T
	*Pool
	rng  *rand.Rand
	luck *rand.Rand // of the local workers, under mu
	mu   sync.Mutex

	rules   *decide.Rules
	state   host.State
	room    int // tasks that the local workers still take
	at      map[string]*one
	work    []func(error) // that the local workers have, to be ended by the test
	blocked []chan struct{}
	hasten  int
	latest  map[string]int // the number of the task of a device that was sent last
}

// one is a task with its fate.
type one struct {
	*task.Task
	n        int
	cycles   float64
	seq      uint64 // of its record, 0 before it has one
	size     int64  // of that
	place    bool   // it has a place in the pool
	ended    string // "released", or the reason of the drop
	bound    int
	outcomes int
	counted  int  // for overload
	stood    int  // for what overload makes of it locally
	amended  int  // decisions amended because the task is sent after all: failed, or without room
	here     bool // the local workers have or had it
}

func newWorld(t *testing.T, seed uint64, ordered bool) *world {
	t.Helper()
	w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 7)), luck: rand.New(rand.NewPCG(seed, 8)), at: map[string]*one{}, latest: map[string]int{}, room: 3}
	w.state = host.State{Cores: 2, Link: host.Link{Up: true, Goodput: 20_000, RTT: 0.02, Growth: 1}}
	w.rules = rulesFor(t, ordered, false, nil)
	w.Pool = New(Deps{
		Rules: func() *decide.Rules { w.mu.Lock(); defer w.mu.Unlock(); return w.rules },
		Look: func(s *host.State) {
			w.mu.Lock()
			defer w.mu.Unlock()
			*s = w.state
			s.Time = time.Now().UnixNano()
		},
		Spool: w, Local: w, Feedback: w, Order: w, Most: 20_000, Hasten: func() { w.mu.Lock(); defer w.mu.Unlock(); w.hasten++ },
		Sent: func(c *decide.Case, err error) {
			require.Error(w, err)
			w.of(c, func(o *one) { o.amended++ })
		},
		Dropped: func(_ *decide.Case, err error) string { require.Error(w, err); return "failed" },
		Hopeless: func(_ *score.Model, t *task.Task, s *host.State) bool {
			return t.Class.Name == "expiring" && s.Time-t.Received > int64(time.Second)
		},
		Shed: func(c *decide.Case) { w.of(c, func(o *one) { o.counted++ }) },
	})
	return w
}

// rulesFor returns rules with policy defer, with classes of which "stays" must not leave if so asked.
func rulesFor(t *testing.T, ordered, stays bool, before *decide.Rules) *decide.Rules {
	t.Helper()
	p := policy.DefaultConfig()
	p.Default, p.DeferOrder, p.DeferTasks, p.DeferLongest, p.DeferAhead = "defer", ordered, 12, "10s", "0s"
	classes := map[string]task.ClassConfig{}
	for _, name := range []string{"default", "stays", "expiring"} {
		c := task.DefaultClassConfig()
		if name != "default" {
			c.MatchSource = name
		}
		c.Complexity, c.NeverLeave = 20, stays && name == "stays"
		if name == "expiring" {
			c.Overload, c.OverloadAge = task.OverloadExpire, "1s"
		}
		classes[name] = c
	}
	speed := score.DefaultConfig()
	speed.EdgeMcycles, p.CostMoney = 5, 0 // node and link are about equally slow
	m, err := score.New(speed)
	require.NoError(t, err)
	r, err := decide.New(decide.Parts{Classes: classes, Largest: 1 << 20, Policy: p, Model: m, Local: decide.Local{Reads: func(*task.Task) bool { return true }}}, before)
	require.NoError(t, err)
	return r
}

// The spool.

func (w *world) Release(sequences []uint64) { w.end(sequences, "released") }

func (w *world) Drop(sequences []uint64, reason string) { w.end(sequences, reason) }

func (w *world) end(sequences []uint64, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, seq := range sequences {
		for _, o := range w.at {
			if o.seq == seq {
				require.Empty(w, o.ended, "record %d ends twice", seq)
				if o.ended = how; how == "released" {
					require.False(w, w.stays(o.Task), "%s must not leave", o.EventID)
				}
				if how == "released" && !o.here && w.rules.Binder().Room().Ordered {
					require.Greater(w, o.n, w.latest[o.Device+o.Class.Name], "the order of %s", o.Device)
					w.latest[o.Device+o.Class.Name] = o.n
				}
			}
		}
	}
}

func (w *world) stays(t *task.Task) bool { return w.rules.Class(t.Class.Name).NeverLeave }

// The local workers.

func (w *world) Full() bool                          { w.mu.Lock(); defer w.mu.Unlock(); return w.room == 0 }
func (w *world) ModelsFull() bool                    { return false }
func (w *world) Workers() int                        { return 1 }
func (w *world) Operators() int                      { return 2 }
func (w *world) InOrder(t *task.Task) bool           { return t.Device == "a" }
func (w *world) Seconds(*task.Class) (float64, bool) { return 0, false }

func (w *world) Offer(item local.Item, done func(int, error)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.room == 0 || w.luck.IntN(4) == 0 {
		return false
	}
	w.take(item, done)
	return true
}

func (w *world) take(item local.Item, done func(int, error)) {
	require.Equal(w, item.Task.Class.NeverLeave, item.Stay)
	require.Greater(w, item.Cycles, 0.0)
	o := w.at[item.Task.EventID]
	require.False(w, o.here, "twice at work")
	o.here = true
	w.room--
	w.work = append(w.work, func(err error) { done(0, err) })
}

func (w *world) Process(_ context.Context, items []local.Item, done func(int, error)) {
	for _, item := range items {
		for {
			w.mu.Lock()
			if w.room > 0 {
				w.take(item, done)
				w.mu.Unlock()
				break
			}
			free := make(chan struct{})
			w.blocked = append(w.blocked, free)
			w.mu.Unlock()
			<-free
		}
	}
}

// finish ends the oldest local work, and reports whether there was any.
func (w *world) finish(err error) bool {
	w.mu.Lock()
	if len(w.work) == 0 {
		w.mu.Unlock()
		return false
	}
	done := w.work[0]
	w.work = w.work[1:]
	w.room++
	for _, free := range w.blocked {
		close(free)
	}
	w.blocked = nil
	w.mu.Unlock()
	done(err)
	return true
}

// The feedback and the order.

func (w *world) of(c *decide.Case, change func(*one)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.at[c.Task.EventID])
}

func (w *world) Stands(_ *decide.Rules, c *decide.Case, _ *host.State) {
	require.Equal(w, atStop(), c.Decision)
	w.of(c, func(o *one) { o.bound++ })
}

func (w *world) Bound(_ *decide.Rules, c *decide.Case, _ *host.State) {
	w.of(c, func(o *one) { o.bound++ })
}

func (w *world) Stays(cases []*decide.Case, _ *host.State) {
	require.Len(w, cases, 1)
	w.of(cases[0], func(o *one) { o.stood++ })
}

func (w *world) Amend(c *decide.Case) {
	require.Equal(w, [2]any{decision.Cloud, decision.LetGo}, [2]any{c.Decision.Target, c.Decision.Reason})
	w.of(c, func(o *one) { o.amended++ })
}
func (w *world) Done(c *decide.Case) { w.of(c, func(o *one) { o.outcomes++ }) }

func (w *world) Shed(c *decide.Case) {
	require.Equal(w, [2]any{decision.TooLate, 1.0}, [2]any{c.Decision.Reason, c.Decision.Propensity})
	w.of(c, func(o *one) { o.outcomes++ })
}

func (w *world) Failed(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[fmt.Sprint("e", id)].outcomes++
}

func (w *world) Ahead(t *task.Task) (parked, waits, here bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.at {
		parked = parked || o.place && o.Device == t.Device && o.Class.Name == t.Class.Name && o.EventID != t.EventID
	}
	return parked, false, false
}

func (w *world) Unpark(t *task.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.at[t.EventID]
	require.True(w, o.place, "%s has no place to release", t.EventID)
	o.place = false
}

// arrive decides a run of tasks. Parked ones are made durable, or not.
func (w *world) arrive(tasks int, durable bool) {
	s := host.State{}
	w.Look(&s)
	rules := w.Rules()
	turn := w.Turn(rules, &s)
	for range tasks {
		n := len(w.at) + 1
		class := []string{"default", "default", "stays", "expiring"}[w.rng.IntN(4)]
		t := &task.Task{
			EventID: fmt.Sprint("e", n), Device: string(rune('a' + w.rng.IntN(2))), Of: 1, Class: rules.Class(class), Complexity: 20,
			Received: s.Time, Data: make([]byte, 100+w.rng.IntN(2000)),
		}
		o := &one{Task: t, n: n}
		w.mu.Lock()
		w.at[t.EventID] = o
		w.mu.Unlock()
		c := decide.Case{Task: t, ID: uint64(n)}
		rules.Decide(&c, &s)
		before := w.Status()
		if !turn.Waits(&c) {
			require.Equal(w, before, w.Status(), "what goes takes no place")
			if ahead, _, _ := w.Ahead(t); !ahead && c.Decision.Target == decision.Cloud { // its track holds it back otherwise
				w.mu.Lock()
				w.latest[t.Device+class] = n
				w.mu.Unlock()
			}
			continue
		}
		w.mu.Lock()
		o.place, o.cycles = true, c.Estimate.Cycles
		w.mu.Unlock()
		if !durable {
			w.Leave(&c)
			o.ended = "never durable"
			continue
		}
		r := spool.Record{Seq: uint64(n), Payload: make([]byte, t.Size()+300)}
		o.size = int64(len(r.Payload)) + recordHeader
		w.mu.Lock()
		o.seq = r.Seq
		w.mu.Unlock()
		w.Enter(rules, &c, &s, &r)
	}
}

// account compares the pool's counters with its actions.
func (w *world) account() {
	synctest.Wait()
	w.mu.Lock()
	var tasks, bytes, records, stored, reserved int64
	cycles := 0.0
	for _, o := range w.at {
		if o.place {
			tasks, bytes, cycles = tasks+1, bytes+int64(o.Size()), cycles+o.cycles
		}
		if o.seq != 0 && o.ended == "" {
			records, stored, reserved = records+1, stored+o.size, reserved+recordSize(o.Size())
		}
	}
	w.mu.Unlock()
	require.Equal(w, [2]int64{tasks, bytes}, [2]int64{w.Status().Tasks, w.Status().Bytes})
	have, of := w.Held()
	require.Equal(w, [2]int64{records, stored}, [2]int64{have, of})
	require.Equal(w, reserved, w.Reserved())
	var s host.State
	w.Load(&s)
	require.InDelta(w, cycles, s.ParkedCycles, 1e-6)
	require.InDelta(w, float64(bytes), s.ParkedBytes, 0)
	if tasks == 0 {
		require.Zero(w, s.ParkedCycles, "not even what rounding leaves")
	}
}

// Whatever node and link do, each record of a parked task ends once, none leaves that must not, those of a device leave in order, and the pool's
// counters are correct. After a stop all are dispatched except those that must not leave, which stay held.
func TestNoParkedTaskIsLostOrSentTwice(t *testing.T) {
	fates := map[string]int{}
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			ordered := seed%2 == 0
			w := newWorld(t, seed, ordered)
			shut := w.Open()
			stays := false
			for range 120 {
				switch w.rng.IntN(9) {
				case 0, 1, 2:
					w.arrive(1+w.rng.IntN(4), w.rng.IntN(8) > 0)
				case 3:
					w.mu.Lock()
					w.state.Link.Up = w.rng.IntN(3) > 0
					w.state.Link.BacklogBytes = int64(w.rng.IntN(3)) * 10_000
					w.state.QueueCycles = float64(w.rng.IntN(3)) * 500
					w.mu.Unlock()
					w.Nudge()
				case 4, 5:
					w.finish(nil)
				case 6:
					w.finish([]error{errors.New("broken"), local.ErrFull}[w.rng.IntN(2)])
				case 7:
					time.Sleep(time.Duration(w.rng.IntN(400)) * time.Millisecond)
				default:
					if w.rng.IntN(6) == 0 {
						stays = !stays
						next := rulesFor(t, ordered, stays, w.Rules())
						w.mu.Lock()
						w.rules = next
						w.mu.Unlock()
						w.Nudge()
					}
				}
				w.account()
			}
			ended := make(chan error)
			go func() { ended <- shut(t.Context()) }()
			synctest.Wait()
			w.arrive(2, true) // too late: tasks durable now are sent
			for synctest.Wait(); w.finish(local.ErrClosed); synctest.Wait() {
			}
			require.NoError(t, <-ended)
			w.account()
			for id, o := range w.at {
				require.False(t, o.place, "%s has a place still", id)
				if o.seq == 0 {
					continue
				}
				require.LessOrEqual(t, o.bound, 1, id)
				if o.ended == "" {
					require.Equal(t, "stays", o.Class.Name, "%s is held for ever", id) // its class let it not leave when it failed here
				} else if o.ended != decision.TooLate.String() {
					require.Equal(t, 1, o.bound, "%s: how it went is noted once", id)
				}
				require.Equal(t, o.here, o.stood == 1, "%s: overload is told of what the node is to compute", id)
				require.Equal(t, o.here && o.ended == "released", o.amended == 1, "%s: that it went after all is noted once", id)
				wanted := o.ended == spool.ReasonHere || o.ended == decision.TooLate.String() || o.ended == "released" && !o.here && o.counted > 0
				require.Equal(t, wanted, o.counted == 1, "%s (%s): overload counts what has ended as decided, once", id, o.ended)
				if o.ended == spool.ReasonHere || o.ended == "failed" || o.ended == decision.TooLate.String() {
					require.Equal(t, 1, o.outcomes, id)
				}
			}
			for _, o := range w.at {
				fates[o.ended]++
			}
			fates["hastened"] += w.hasten
		})
	}
	for _, fate := range []string{"released", "hastened", spool.ReasonHere, "failed", decision.TooLate.String(), "never durable"} {
		require.Positive(t, fates[fate], "%s among %v", fate, fates)
	}
	t.Log(fates)
}

// A reduced parked task stays reduced, and is counted so, whatever changes while it waits for earlier ones.
func TestAParkedTaskStaysReduced(t *testing.T) {
	w := newWorld(t, 1, true)
	w.Pool.rules = w.Pool.Rules()
	w.Look(&w.Pool.state)
	own := *w.rules.Class("default")
	own.Reduced = &task.Class{Name: "small", Complexity: 1}
	reduced := &task.Task{EventID: "e1", Device: "b", Of: 1, Class: &own, Received: w.Pool.state.Time, Data: make([]byte, 1000)}
	reduced.Reduce()
	w.at["e1"] = &one{Task: reduced, n: 1, seq: 1, place: true}
	why := decision.Decision{Target: decision.Local, Reason: decision.Reduced, Propensity: 1}
	j := &parked{Case: decide.Case{Task: reduced, ID: 1, Decision: why, Estimate: score.Estimate{Cycles: 1}}, seq: 1, fixed: true}
	w.reconsider(t.Context(), j)
	require.Equal(t, why, j.Decision)
	require.True(t, j.fixed)
	require.Equal(t, "small", j.Task.Class.Name)
}
