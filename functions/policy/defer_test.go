package policy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"app-offload/functions/host"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestARuleIsReadAsItWasWritten(t *testing.T) {
	var file bytes.Buffer
	require.NoError(t, WriteRule(&file, DefaultRule(), "by hand"))
	r, err := ReadRule(&file)
	require.NoError(t, err)
	require.Equal(t, DefaultRule(), r)
}

func TestAWrongRuleSaysWhatIsWrong(t *testing.T) {
	for want, text := range map[string]string{
		"reading a rule":                        `{`,
		"unknown field":                         `{"format":"app-offload rule 2","edgeprice2":1}`,
		`"app-offload rule 1"`:                  `{"format":"app-offload rule 1"}`,
		"tail = -1 is not between 0.001 and 20": `{"format":"app-offload rule 2","tail":-1}`,
		"doubt = 0 is not between":              `{"format":"app-offload rule 2"}`,
	} {
		_, err := ReadRule(bytes.NewBufferString(text))
		require.ErrorContains(t, err, want)
		file := filepath.Join(t.TempDir(), "rule.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		err = config(func(c *Config) { c.DeferRule = file }).Validate()
		require.ErrorContains(t, err, "DeferRule")
		require.ErrorContains(t, err, want)
	}
}

// A pipe in the place of a file is an error, and does not hold up the start.
func TestAPipeInThePlaceOfAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err := loadRule(pipe)
	require.ErrorContains(t, err, "reading a rule")
	_, err = loadNetwork(pipe)
	require.ErrorContains(t, err, "reading weights")
}

// Every number of a rule may equal its bounds, and not exceed them.
func TestTheBoundsOfARule(t *testing.T) {
	base := DefaultRule()
	for i, f := range base.Fields() {
		for v, good := range map[float64]bool{
			f.Low: true, f.High: true, math.Nextafter(f.Low, -1): false, math.Nextafter(f.High, 1e9): false, math.NaN(): false,
		} {
			r := base
			*r.Fields()[i].At = v
			if err := r.check(); good {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, f.Name)
			}
		}
	}
}

// The built-in rule is the learned one, to the digits that matter.
func TestTheDefaultRuleIsTheShippedOne(t *testing.T) {
	f, err := os.Open("../../res/policies/defer.json")
	require.NoError(t, err)
	defer f.Close()
	shipped, err := ReadRule(f)
	require.NoError(t, err)
	built := DefaultRule()
	for i, field := range shipped.Fields() {
		require.InEpsilon(t, *field.At, *built.Fields()[i].At, 0.01, field.Name)
	}
}

// Without any work allowed ahead, a server with an empty queue is still free.
func TestAheadZeroLetsIdleServersWork(t *testing.T) {
	r := newRoom(t, func(c *Config) { c.DeferAhead = "0s" })
	one := &task.Task{Of: 1, Received: r.state.Time, Data: make([]byte, 1000), Complexity: 50}
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		e := r.model.Estimate(one, &r.state)
		require.False(t, r.binder.Waits(one, &e, &r.state, &decision.Decision{Target: target}), "%v", target)
	}
	r.busyNode()
	r.busyLink()
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		e := r.model.Estimate(one, &r.state)
		require.True(t, r.binder.Waits(one, &e, &r.state, &decision.Decision{Target: target}), "%v", target)
	}
}

// Among tasks that may meet their deadline, a plan first takes those with the least server time for their cost of delay; tasks that can only be late
// are taken when no other task needs the server.
func TestAPlanSparesTheHopeless(t *testing.T) {
	r := newRoom(t)
	r.busyLink()
	require.True(t, r.add(400, 100, time.Second, 2500*time.Millisecond)) // 960 Mcycles: hopeless in half a second
	require.True(t, r.add(400, 100, time.Second, 4*time.Second))         // it is already
	require.True(t, r.add(200, 50, time.Second, 0))
	var order []any
	for {
		tag, _, ok := r.next()
		if !ok {
			break
		}
		order = append(order, tag)
	}
	require.Equal(t, 2, order[0], "of %v", order)
	require.Len(t, order, 3, "none is dropped")
}

// With DeferOrder, a device's tasks of a class leave in order, whichever gains most, and tasks whose operators need the order are processed in order.
// Others may be processed in any order.
func TestParkedTasksKeepTheirOrder(t *testing.T) {
	for _, inOrder := range []bool{true, false} {
		r := newRoom(t, func(c *Config) { c.DeferOrder = true })
		class, other := &task.Class{Name: "a"}, &task.Class{Name: "b"}
		rng := rand.New(rand.NewPCG(1, 2))
		type key struct{ device, class string }
		sent := map[key]int{}
		overtook, left := 0, map[int]bool{}
		for i := range 400 {
			one := &task.Task{
				Of: 1, Received: r.state.Time, Data: make([]byte, 1+rng.IntN(100*score.KB)), Complexity: 100 * rng.Float64(), Class: class,
				Deadline: time.Duration(1+rng.IntN(5)) * time.Second, Device: fmt.Sprint("device ", i%3),
			}
			if rng.IntN(2) == 0 {
				one.Class = other
			}
			require.True(t, r.waiting.Add(Held{Task: one, Tag: i, InOrder: inOrder}, r.binder.Room()))
			left[i] = true
			for rng.IntN(3) == 0 { // some go in between
				r.state.Time += int64(100 * time.Millisecond)
				r.state.QueueCycles = 3000 * float64(rng.IntN(2)) // every other time only the link is free
				h, d, _, ok := r.waiting.Next(r.binder, r.model, &r.state)
				if !ok {
					break
				}
				require.True(t, left[h.Tag.(int)])
				delete(left, h.Tag.(int))
				k := key{h.Task.Device, h.Task.Class.Name}
				if first, more := r.waiting.streams[streamOf(h.Task)]; more && r.waiting.berths[first.first-1].held.Tag.(int) < h.Tag.(int) {
					overtook++
					require.Equal(t, decision.Local, d.Target)
				}
				if inOrder || d.Target == decision.Cloud {
					require.GreaterOrEqual(t, h.Tag.(int), sent[k])
					sent[k] = h.Tag.(int)
				}
			}
		}
		require.Greater(t, len(sent), 4)
		require.Equal(t, inOrder, overtook == 0)
		require.Len(t, left, r.waiting.Len())
		last := -1
		for _, h := range r.waiting.All() {
			require.Greater(t, h.Tag.(int), last, "the remaining tasks keep their order")
			last = h.Tag.(int)
		}
		require.Empty(t, r.waiting.streams)
	}
}

// The same holds for policy cost, whose prices are per second.
func TestCostDecidesAlikeAtEveryScale(t *testing.T) {
	play := func(scale float64) (did []decision.Target) {
		p := build(t, "cost", func(c *Config) { c.CostPatience *= scale })
		rng := rand.New(rand.NewPCG(5, 6))
		s := host.State{Time: 1e18, Link: host.Link{Up: true, Goodput: 2e5 / scale, RTT: 0.1 * scale}}
		for i := range 2000 {
			s.Time += int64(scale * 1e9 * rng.ExpFloat64() / 3)
			one := &task.Task{Of: 1, Received: s.Time, Deadline: time.Duration(scale * (0.2 + 5*rng.Float64()) * 1e9)}
			local, own, cloud := 5*rng.Float64(), rng.Float64(), 5*rng.Float64()
			s.QueueCycles = 1000 * local
			s.Link.InflightBytes = int64(1e5 * cloud)
			e := score.Estimate{
				LocalTime: scale * (local + own), Cycles: 1000 * own, CloudTime: scale * (cloud/2 + 0.2), Bytes: 1e4, LocalEnergy: own, CloudEnergy: 0.1,
			}
			if d := p.Decide(one, &e, &s); i > fewTasks { // the first ones are priced by the second
				did = append(did, d.Target)
			}
		}
		return did
	}
	want := play(1)
	require.Contains(t, want, decision.Local)
	require.Contains(t, want, decision.Cloud)
	for _, scale := range []float64{0.1, 0.5, 5, 10} {
		require.Equal(t, want, play(scale), "at scale %v", scale)
	}
}

// Multiplying all times of a node by the same factor changes no decision: neither the targets, nor the parked tasks, nor their order.
func TestDeferDecidesAlikeAtEveryScale(t *testing.T) {
	play := func(scale float64) (did []string) {
		c := score.DefaultConfig()
		stretch := func(d time.Duration) string { return time.Duration(float64(d) * scale).String() }
		c.EdgeMcycles, c.CloudMcycles = c.EdgeMcycles/scale, c.CloudMcycles/scale
		c.RTT, c.Overhead = stretch(50*time.Millisecond), stretch(20*time.Millisecond)
		m, err := score.New(c)
		require.NoError(t, err)
		b, err := DeferBy(DefaultRule(), config(func(c *Config) {
			c.CostPatience *= scale
			c.DeferLongest = stretch(10 * time.Minute)
		}))
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(3, 4))
		s, w := host.State{Time: 1e18, Link: host.Link{Up: true, Goodput: 2e5 / scale, RTT: 0.1 * scale}}, Waiting{}
		for range fewTasks { // before that a second is a second
			s.Time += int64(scale * 1e9)
			one := &task.Task{Of: 1, Received: s.Time, Deadline: time.Duration(scale * 1e9)}
			b.Decide(one, &score.Estimate{}, &s)
		}
		for i := range 3000 {
			s.Time += int64(scale * 1e9 * rng.ExpFloat64() / 3)
			s.QueueCycles, s.Link.InflightBytes = float64(rng.IntN(4)*rng.IntN(3000)), int64(rng.IntN(4)*rng.IntN(100_000))
			one := &task.Task{
				Of: 1, Received: s.Time, Data: make([]byte, 1+rng.IntN(200*score.KB)), Complexity: 100 * rng.Float64(),
				Deadline: time.Duration(scale * (0.2 + 5*rng.Float64()) * 1e9),
			}
			e := m.Estimate(one, &s)
			d := b.Decide(one, &e, &s)
			waits := b.Waits(one, &e, &s, &d)
			did = append(did, fmt.Sprint(i, d.Target, waits))
			if waits {
				w.Add(Held{Task: one, Tag: i}, b.Room())
			}
			if h, d, _, ok := w.Next(b, m, &s); ok {
				did = append(did, fmt.Sprint("bound ", h.Tag, d.Target))
			}
		}
		return did
	}
	want := play(1)
	for _, scale := range []float64{0.1, 0.5, 5, 10} {
		have, off := play(scale), 0
		for i := range want {
			if i >= len(have) || want[i] != have[i] {
				off++
			}
		}
		require.LessOrEqual(t, off, len(want)/1000, "at scale %v: times are whole nanoseconds, which may reverse near ties", scale)
	}
}
