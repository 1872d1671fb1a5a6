package policy

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// waitingRoom is policy defer with its model, and parked tasks.
type waitingRoom struct {
	binder  Binder
	model   *score.Model
	state   host.State
	waiting Waiting
}

func newRoom(t testing.TB, edits ...func(*Config)) *waitingRoom {
	t.Helper()
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	b, err := DeferBy(DefaultRule(), config(edits...))
	require.NoError(t, err)
	return &waitingRoom{binder: b, model: m, state: host.State{Time: 1e18, Link: host.Link{Up: true, Goodput: 1e5, RTT: 0.05}}}
}

// add parks a task of that many KB, complexity and deadline, received so long ago.
func (r *waitingRoom) add(kb int, complexity float64, deadline, since time.Duration) bool {
	one := &task.Task{Of: 1, Received: r.state.Time - int64(since), Data: make([]byte, kb*score.KB), Complexity: complexity, Deadline: deadline}
	return r.waiting.Add(Held{Task: one, Tag: r.waiting.Len()}, r.binder.Room())
}

func (r *waitingRoom) next() (tag any, d decision.Decision, ok bool) {
	h, d, _, ok := r.waiting.Next(r.binder, r.model, &r.state)
	return h.Tag, d, ok
}

func (r *waitingRoom) busyNode() { r.state.QueueCycles = 3000 }
func (r *waitingRoom) busyLink() { r.state.Link.BacklogBytes = 1e6 }

func TestOnlyAFreeServerTakesATask(t *testing.T) {
	r := newRoom(t)
	r.busyNode()
	r.busyLink()
	require.True(t, r.add(100, 50, 2*time.Second, 0))
	_, _, ok := r.next()
	require.False(t, ok, "both are busy")
	r.state.QueueCycles = 0
	_, d, ok := r.next()
	require.True(t, ok)
	require.Equal(t, decision.Decision{Target: decision.Local, Threshold: half, Propensity: 1, Reason: decision.BoundLocal}, d)
	require.Zero(t, r.waiting.Len())
	require.Zero(t, r.waiting.Bytes())
}

// The task that saves most per server time is taken first, not the earliest.
func TestTheHighestBidIsTaken(t *testing.T) {
	r := newRoom(t)
	r.busyLink()
	require.True(t, r.add(400, 100, 3*time.Second, 0)) // 960 Mcycles
	require.True(t, r.add(20, 50, time.Second, 0))     // 24 Mcycles, as urgent
	require.True(t, r.add(20, 50, time.Hour, 0))       // as small, not urgent at all
	var order []any
	for {
		tag, d, ok := r.next()
		if !ok {
			break
		}
		require.Equal(t, decision.BoundLocal, d.Reason)
		order = append(order, tag)
	}
	require.Equal(t, 1, order[0], "of %v", order)
	require.Len(t, order, 3)
}

// A lane is in the order of work times deadline, by the work of each server: what comes first in it is gathered first. A task costs the link half a
// KB more than its data.
func TestALaneIsInTheOrderOfBothServers(t *testing.T) {
	r := newRoom(t)
	require.True(t, r.add(10, 100, time.Second, 0))
	require.True(t, r.add(1, 100, 18*time.Second, 0))
	require.True(t, r.add(10, 1, 2*time.Second, 0))
	require.Equal(t, [2][]int{decision.Local: {2, 0, 1}, decision.Cloud: {0, 2, 1}}, r.waiting.lanes[forOperators][live].order)
}

func TestTheLinkTakesWhatGainsByIt(t *testing.T) {
	r := newRoom(t)
	r.busyNode()
	r.state.Link.Goodput = 5e6
	require.True(t, r.add(10, 100, time.Second, 0))
	tag, d, ok := r.next()
	require.True(t, ok)
	require.Equal(t, 0, tag)
	require.Equal(t, decision.Decision{Target: decision.Cloud, Score: 1, Threshold: half, Propensity: 1, Reason: decision.BoundCloud}, d)
}

func TestWithoutALinkOnlyTheNodeTakes(t *testing.T) {
	r := newRoom(t)
	r.state.Link.Up = false
	require.True(t, r.add(10, 10, time.Second, 0))
	r.busyNode()
	_, _, ok := r.next()
	require.False(t, ok)
	r.state.QueueCycles = 0
	_, d, ok := r.next()
	require.True(t, ok)
	require.Equal(t, decision.Local, d.Target)
}

func TestNobodyWaitsForEver(t *testing.T) {
	r := newRoom(t, func(c *Config) { c.DeferLongest = "10s" })
	r.busyNode()
	r.busyLink()
	require.True(t, r.add(10, 10, time.Second, 9*time.Second))
	_, _, ok := r.next()
	require.False(t, ok)
	r.state.Time += int64(time.Second)
	h, d, e, ok := r.waiting.Next(r.binder, r.model, &r.state)
	require.True(t, ok)
	require.Equal(t, decision.Cloud, d.Target)
	require.Equal(t, decision.LongestWait, d.Reason)
	require.Equal(t, r.model.Estimate(h.Task, &r.state), e)
}

// A task that is as late as can be loses little by waiting, and less than its server time costs future tasks if it takes long. Once no task is
// expected for which a server would have to be kept free, it goes to the server that is cheaper for it.
func TestATaskThatIsAsLateAsCanBeGoesWhereNothingElseComes(t *testing.T) {
	r := newRoom(t, func(c *Config) { c.CostMoney, c.CostMemory = 100, 1000 })
	const gap = time.Millisecond
	for range 40 {
		one := &task.Task{Of: 1, Received: r.state.Time, Deadline: 50 * time.Millisecond, Data: make([]byte, 100)}
		e := r.model.Estimate(one, &r.state)
		r.binder.Decide(one, &e, &r.state)
		r.state.Time += int64(gap)
	}
	for range 2 {
		require.True(t, r.add(400, 100, 50*time.Millisecond, time.Second)) // 53 ms here
	}
	_, _, ok := r.next()
	require.False(t, ok, "others may come at any moment")
	r.state.Time += int64(quietGaps * gap)
	r.busyNode()
	_, _, ok = r.next()
	require.False(t, ok, "the node is busy, and the link costs more")
	r.state.QueueCycles = 0
	_, d, ok := r.next()
	require.True(t, ok)
	require.Equal(t, decision.BoundLocal, d.Reason)
	r.state.MemoryStall, r.state.Link.Up = 100, false
	_, d, ok = r.next()
	require.True(t, ok, "the link would cost less, but is down")
	require.Equal(t, decision.BoundLocal, d.Reason)
}

// A server is free with as much work as is allowed ahead: with none at all it is.
func TestWhenAServerIsFree(t *testing.T) {
	r := newRoom(t)
	r.state.Link.RTT = 0
	require.Equal(t, [2]bool{true, true}, free(r.model, &r.state, 0))
	r.state.QueueCycles, r.state.Link.BacklogBytes = 1, 1
	require.Equal(t, [2]bool{false, false}, free(r.model, &r.state, 0))
	require.Equal(t, [2]bool{true, true}, free(r.model, &r.state, 1))
	r.state.Link.Up = false
	require.Equal(t, [2]bool{true, false}, free(r.model, &r.state, 1))
}

func TestTheRoomIsBounded(t *testing.T) {
	r := newRoom(t, func(c *Config) { c.DeferTasks, c.DeferMiB = 3, 1 })
	require.True(t, r.add(512, 10, 0, 0))
	require.False(t, r.add(513, 10, 0, 0), "bytes")
	require.True(t, r.add(1, 10, 0, 0))
	require.True(t, r.add(1, 10, 0, 0))
	require.False(t, r.add(1, 10, 0, 0), "tasks")
	require.Len(t, r.waiting.All(), 3)
	require.Zero(t, r.waiting.Len())
	require.Zero(t, r.waiting.Bytes())
	require.True(t, r.add(513, 10, 0, 0), "it is empty again")
}

// A task whose target is free is dispatched immediately: waiting would only cost.
func TestATaskWaitsOnlyForABusyWay(t *testing.T) {
	r := newRoom(t)
	one := &task.Task{Of: 1, Received: r.state.Time, Data: make([]byte, 10*score.KB), Complexity: 50, Deadline: time.Second}
	decide := func() (decision.Decision, bool) {
		e := r.model.Estimate(one, &r.state)
		d := r.binder.Decide(one, &e, &r.state)
		return d, r.binder.Waits(one, &e, &r.state, &d)
	}
	d, waits := decide()
	require.Equal(t, decision.Local, d.Target)
	require.False(t, waits)
	r.busyLink() // which it does not want
	_, waits = decide()
	require.False(t, waits)
	r.busyNode()
	_, waits = decide()
	require.True(t, waits)
}

// A task may have the link up to a round trip before it is free, less early the more tasks arrive while it is sent; parked tasks likewise.
func TestAShortTaskTakesTheLinkEarly(t *testing.T) {
	for name, row := range map[string]struct {
		kb    int
		ahead float64 // s of the link
		gap   time.Duration
		early bool
	}{
		"short":                        {1, 0.2, time.Second, true},
		"long":                         {100, 0.2, time.Second, false},
		"long, but few tasks come":     {100, 0.2, 100 * time.Second, true},
		"short, more than a trip away": {1, 0.35, time.Second, false},
		"long, and the link is free":   {100, 0, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			r.state.Link.RTT = 0.3
			r.state.QueueCycles = 30_000 // so busy that all gain by the link
			for range fewTasks {
				r.state.Time += int64(row.gap)
				r.binder.Decide(&task.Task{Of: 1, Received: r.state.Time, Deadline: usualDeadline * 1e9}, &score.Estimate{}, &r.state)
			}
			r.state.Link.InflightBytes = int64(row.ahead * r.state.Link.Goodput)
			one := &task.Task{Of: 1, Received: r.state.Time, Data: make([]byte, row.kb*score.KB), Complexity: 50, Deadline: 10 * time.Second}
			e := r.model.Estimate(one, &r.state)
			require.Equal(t, !row.early, r.binder.Waits(one, &e, &r.state, &decision.Decision{Target: decision.Cloud}))
			require.True(t, r.add(row.kb, 50, 10*time.Second, 0))
			_, d, ok := r.next()
			require.Equal(t, row.early, ok)
			require.Equal(t, row.early, d.Target == decision.Cloud)
		})
	}
}

// An unmeasured link has the configured speed, and is not endless.
func TestAnUnmeasuredLinkFillsUp(t *testing.T) {
	bound := func(goodput float64, kb int) (n int) {
		r := newRoom(t, func(c *Config) { c.DeferAhead = "50ms" })
		r.state.Link.Goodput = goodput
		r.state.QueueCycles = 30_000 // so busy that all would gain by an endless link
		for range 200 {
			require.True(t, r.add(kb, 50, 10*time.Second, 0))
		}
		for {
			if _, _, ok := r.next(); !ok {
				return n
			}
			n++
			r.state.Link.BacklogBytes += int64(kb) * score.KB
		}
	}
	for kb, want := range map[int]int{1: 98, 10: 10, 100: 1} { // 50 ms of work may be ahead, and up to a round trip of 50 ms more
		require.Equal(t, want, bound(1e6, kb), "8 Mbit/s, as is configured")
		require.Equal(t, want, bound(0, kb))
	}
}

// BenchmarkNext measures the choice among so many parked tasks, for one server.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRoom(b)
			r.busyLink()
			for i := range n {
				require.True(b, r.add(1+i%30, float64(i%100), time.Second, time.Duration(i)*time.Millisecond))
			}
			b.ReportAllocs()
			for b.Loop() {
				h, _, _, _ := r.waiting.Next(r.binder, r.model, &r.state)
				r.waiting.Add(h, r.binder.Room())
			}
		})
	}
}

// A target is not worse for a parked task if other tasks are ahead of it on the better one. The node computes each task in 13 ms and no energy, the
// link takes .26 s: with more parked tasks than the node does in that time, the link has to take some, and with few it must not.
func TestAQueueSharesBothServersThoughOneIsBetterInEverything(t *testing.T) {
	for parked, want := range map[int]bool{1: false, 5: false, 100: true, 1000: true} {
		r := newRoom(t)
		m, err := score.New(func() score.Config {
			c := score.DefaultConfig()
			c.McyclesPerKB, c.EdgeJoules, c.Overhead = 0.04, 1e-6, "200ms"
			return c
		}())
		require.NoError(t, err)
		r.model, r.state.Link.Goodput = m, 1e7
		for range parked {
			require.True(t, r.add(10, 100, time.Second, 0))
		}
		var to [2]int
		for range 2 { // the first one is for the node
			_, d, ok := r.next()
			if !ok {
				break
			}
			to[d.Target]++
			r.state.QueueCycles += 400 * float64(1-int(d.Target)) // the node is busy
		}
		require.Equal(t, 1, to[decision.Local], "%d parked", parked)
		require.Equal(t, want, to[decision.Cloud] > 0, "%d parked", parked)
	}
}

// A second more costs a task its share of the deadline, one without a deadline of the patience, and one that is as late as can be the tail.
func TestWhatASecondCosts(t *testing.T) {
	o := &outlook{cost: costOf(DefaultConfig())}
	for _, c := range []struct{ deadline, waited, want float64 }{
		{2, 0, o.cost.time / 2},
		{2, 2 * o.cost.kappa, o.cost.time / 2},
		{2, 2*o.cost.kappa + 1, o.cost.tail / 2},
		{math.Inf(1), 0, o.cost.time / o.cost.patience},
	} {
		require.InDelta(t, c.want, o.slope(&prospect{deadline: c.deadline, waited: c.waited}), 1e-12, "%+v", c)
	}
}

// Tasks beyond the outlook go to the free server until the other one can begin, and from then on to both equally.
func TestTasksBeyondTheOutlookFillBothServers(t *testing.T) {
	for name, c := range map[string]struct {
		free, own, ahead [2]float64
		after            float64
		n                int
	}{
		"none":                                   {n: 0, own: [2]float64{1, 1}},
		"the cloud is busy for longer than they": {n: 4, free: [2]float64{0, 10}, own: [2]float64{1, 1}, ahead: [2]float64{4, 0}},
		"the node is":                            {n: 4, free: [2]float64{10, 0}, own: [2]float64{1, 1}, ahead: [2]float64{0, 4}},
		"its answers come late":                  {n: 4, after: 10, own: [2]float64{1, 1}, ahead: [2]float64{4, 0}},
		"both are free":                          {n: 4, own: [2]float64{1, 3}, ahead: [2]float64{3, 3}},
		"the cloud becomes free meanwhile":       {n: 5, free: [2]float64{1, 4}, own: [2]float64{1, 1}, ahead: [2]float64{4, 1}},
		"the node does":                          {n: 5, free: [2]float64{4, 1}, own: [2]float64{1, 1}, ahead: [2]float64{1, 4}},
	} {
		o := &outlook{cost: costOf(DefaultConfig()), free: c.free, n: 2}
		o.tasks[0] = prospect{deadline: 2, own: [2]float64{2 * c.own[0], c.own[1] / 2}, after: c.after}
		o.tasks[1] = prospect{deadline: 2, own: [2]float64{0, 1.5 * c.own[1]}, after: c.after} // the mean counts
		price := o.beyond(c.n)
		for server := range price {
			require.InDelta(t, c.ahead[server], o.rest.ahead[server], 1e-9, "%s, %d", name, server)
			require.InDelta(t, c.ahead[server]/max(c.own[server], 1e-300)*o.cost.time/2, price[server], 1e-9, "%s, %d", name, server)
		}
	}
}
