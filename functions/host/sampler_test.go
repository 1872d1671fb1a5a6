package host

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// cpu writes jiffies of work and of idling since the start, half of the work in user and half in system time.
func (tr tree) cpu(busy, idle int) {
	tr.put("proc/stat", fmt.Sprintf("cpu %d 0 %d %d 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n", busy/2, busy/2, idle))
}

func TestSampleOfABareNode(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	first := s.State()
	require.InDelta(t, 10, first.CPU, 1e-9, "the first sample is the mean since the start")
	require.InDelta(t, 60, first.Memory, 1e-9, "the page cache counts as available")
	require.True(t, math.IsNaN(first.Temperature) && math.IsNaN(first.Watts) && math.IsNaN(first.Battery))
	require.Zero(t, first.MHz)
	require.False(t, first.OnBattery)
	require.Positive(t, first.Cores)
	require.Len(t, s.Absent(), 3)

	tr.cpu(100+76, 900+24)
	require.NoError(t, s.sample(time.Unix(0, first.Time).Add(time.Second)))
	require.InDelta(t, 76, s.State().CPU, 1e-9, "then the share between two samples")
	require.Equal(t, first.Time+int64(time.Second), s.State().Time)
	require.InDelta(t, 10, first.CPU, 1e-9, "a state handed out never changes")
}

func TestGuestsAndWaitingAreNotCountedTwice(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	// 100 more jiffies: 40 user of which 30 are guests, 10 nice of which 10 are guests, 30 idle, 20 waiting for the disk.
	tr.put("proc/stat", "cpu 90 10 50 930 20 0 0 0 30 10\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
	require.NoError(t, s.sample(time.Now()))
	require.InDelta(t, 50, s.State().CPU, 1e-9)
}

func TestOwnCPUIsPartOfTheWhole(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	require.Zero(t, s.State().OwnCPU, "there is nothing before the first sample")
	for start := ownTime(); ownTime()-start < 30*time.Millisecond; {
		_ = math.Sqrt(float64(start)) // spend CPU time of this process
	}
	tr.cpu(100+50, 900+50)
	require.NoError(t, s.sample(time.Unix(0, s.State().Time).Add(time.Second)))
	own := s.State().OwnCPU
	require.Greater(t, own, 0.0)
	at := time.Unix(0, s.State().Time)
	for _, wall := range []time.Duration{0, -time.Hour} { // of no time there is no share, nor of a step back: the last one stays
		tr.cpu(100+100, 900+100)
		require.NoError(t, s.sample(at.Add(wall)))
		require.InDelta(t, own, s.State().OwnCPU, 0, "%v", wall)
	}
	require.LessOrEqual(t, own, s.State().CPU)
}

func TestUnreadableCountersKeepTheLastValues(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	before := *s.State()
	tr.remove("proc/stat")
	tr.remove("proc/meminfo")
	err := s.sample(time.Unix(0, before.Time).Add(time.Second))
	require.ErrorContains(t, err, "reading CPU times")
	require.ErrorContains(t, err, "reading memory")
	require.Equal(t, before.CPU, s.State().CPU)
	require.Equal(t, before.Memory, s.State().Memory)
}

func TestNewFailsWhereNothingCanBeRead(t *testing.T) {
	tr := newTree(t)
	tr.remove("proc/stat")
	_, err := New(tr.config())
	require.ErrorContains(t, err, tr.config().ProcfsRoot)
	require.ErrorContains(t, err, "CPU times")
}

func TestRunSamplesOnceASecondUntilItsContextEnds(t *testing.T) {
	tr := newTree(t)
	synctest.Test(t, func(t *testing.T) {
		s := tr.sampler()
		start := s.State().Time
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); s.Run(ctx) }()

		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, start+int64(3*time.Second), s.State().Time)
		require.Zero(t, s.Failed())

		tr.remove("proc/stat")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, s.Failed(), "each failed sample is counted")
		cancel()
		<-ended
	})
}

func TestLinkAndQueueAreInTheStateAtOnce(t *testing.T) {
	s := newTree(t).sampler()
	s.SetLink(Link{Up: true, Goodput: 1e6})
	require.Equal(t, Link{Up: true, Goodput: 1e6}, s.State().Link)

	waiting := 3
	s.SetQueue(func() (int, float64) { return waiting, 10 * float64(waiting) })
	require.Equal(t, 3, s.State().QueueTasks)
	require.True(t, s.State().Link.Up, "setting one leaves the other")

	waiting = 7
	var now State
	s.Read(&now)
	require.Equal(t, 7, now.QueueTasks, "Read asks at the moment of the call")
	require.InDelta(t, 70, now.QueueCycles, 0)
	require.Equal(t, 3, s.State().QueueTasks, "State is as of the last change")

	s.SetQueue(nil)
	require.Zero(t, s.State().QueueTasks)
}

func TestWritersDoNotUndoEachOther(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	s.SetQueue(func() (int, float64) { return 5, 1 })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				s.SetLink(Link{Up: true, RTT: float64(i)})
				_ = s.State().Link.Up
			}
		})
	}
	for i := range 20 {
		require.NoError(t, s.sample(time.Unix(int64(i), 0)))
	}
	wg.Wait()
	require.True(t, s.State().Link.Up)
	require.Equal(t, 5, s.State().QueueTasks)
}

func TestReadingTheStateAllocatesNothing(t *testing.T) {
	s := newTree(t).sampler()
	s.SetQueue(func() (int, float64) { return 1, 1 })
	var now State
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Read(&now); _ = s.State().CPU }))
}

func TestThisMachineCanBeSampled(t *testing.T) {
	s, err := New(DefaultConfig())
	require.NoError(t, err)
	require.InDelta(t, 50, s.State().Memory, 50)
	require.InDelta(t, 50, s.State().CPU, 50)
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	c := DefaultConfig()
	c.ProcfsRoot = file
	require.ErrorContains(t, c.Validate(), "is not a directory")
	err := Config{Interval: "soon", SysfsRoot: "sys", ProcfsRoot: "/no/such/place"}.Validate()
	for _, want := range []string{"Host.Interval", "Host.SysfsRoot", "absolute", "Host.ProcfsRoot", "/no/such/place"} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(Config{})
	require.Error(t, err)
}

func TestStateGoesThroughJSON(t *testing.T) {
	s := State{Time: 1, CPU: 42.5, Temperature: math.NaN(), Watts: 3.5, Battery: math.NaN(), Link: Link{Up: true, RTT: .05}}
	infinite := s
	infinite.Temperature, infinite.Watts, infinite.Battery = math.Inf(1), math.Inf(-1), math.Inf(1)
	_, err := json.Marshal(infinite)
	require.NoError(t, err, "JSON has no infinite numbers either")
	b, err := json.Marshal(&s)
	require.NoError(t, err)
	require.Contains(t, string(b), `"temperature":null`)
	require.Contains(t, string(b), `"watts":3.5`)
	var back State
	require.NoError(t, json.Unmarshal(b, &back))
	require.True(t, math.IsNaN(back.Temperature) && math.IsNaN(back.Battery))
	back.Temperature, back.Battery, s.Temperature, s.Battery = 0, 0, 0, 0
	require.Equal(t, s, back)
}

func BenchmarkRead(b *testing.B) {
	s, err := New(DefaultConfig())
	require.NoError(b, err)
	s.SetQueue(func() (int, float64) { return 1, 1 })
	var now State
	b.ReportAllocs()
	for b.Loop() {
		s.Read(&now)
	}
}

func BenchmarkSample(b *testing.B) {
	s, err := New(DefaultConfig())
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, s.sample(time.Now()))
	}
}

// Pressure stall information is read if the kernel has it; any other content of the file is no stall.
func TestMemoryStall(t *testing.T) {
	tr := newTree(t)
	require.Zero(t, tr.sampler().State().MemoryStall, "a kernel without it")
	for content, want := range map[string]float64{
		"some avg10=12.50 avg60=3.00 avg300=0.70 total=123456\nfull avg10=1.00 avg60=0.10 avg300=0.00 total=1234\n": 12.5,
		"some avg10=250 avg60=0\n": 100,
		"some avg10=NaN\n":         0,
		"disabled\n":               0,
		"":                         0,
	} {
		tr.put("proc/pressure/memory", content)
		require.Equal(t, want, tr.sampler().State().MemoryStall, content)
	}
}

// The share of this process is its CPU time between two samples, of all cores.
func TestOwnCPUIsWhatWasSpentSinceTheSampleBefore(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	for start := ownTime(); ownTime()-start < 30*time.Millisecond; {
		_ = math.Sqrt(float64(start)) // spend CPU time of this process
	}
	before := ownTime()
	s.cpu.own = before
	tr.cpu(100+90, 900+10)
	require.NoError(t, s.sample(time.Unix(0, s.State().Time).Add(time.Second)))
	most := 100 * (ownTime() - before).Seconds() / float64(s.State().Cores)
	require.LessOrEqual(t, s.State().OwnCPU, most+1e-9)
}

// A node whose counters have no line for the processor reports an error.
func TestCountersWithoutAProcessor(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	tr.put("proc/stat", "intr 5\n")
	require.ErrorContains(t, s.sample(time.Now()), "reading CPU times: stat has no line for the CPU")
}
