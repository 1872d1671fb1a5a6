package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

// The bench's children are this test binary, as they are offload-lab itself outside tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "bench" && os.Args[2] == "-as" {
		if err := Child(context.Background(), os.Args[3], os.Args[4:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A small run of the whole bench: the floor, and the service with each path of a task.
func TestNothingIsLostOrDoubled(t *testing.T) {
	o := DefaultOptions()
	o.Bin, o.Dir, o.Res = t.TempDir(), t.TempDir(), "../../../../res"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", o.Bin, "../../../app-offload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	o.Brokers, o.Confirm, o.QoS, o.Events, o.Window, o.JSON = Embedded, "receipt", "1", 2000, 500, true

	var lines, table bytes.Buffer
	start := time.Now()
	err = Run(t.Context(), o, &lines, &table)
	log, _ := os.ReadFile(filepath.Join(o.Dir, "log"))
	require.NoError(t, err, "%s\n%s", table.String(), log)
	t.Logf("in %v:\n%s", time.Since(start), table.String())
	for dec, n := json.NewDecoder(&lines), 0; ; n++ {
		var r Result
		if err := dec.Decode(&r); err == io.EOF {
			require.Equal(t, 4, n, "the floor and three policies")
			break
		}
		require.Zero(t, r.Lost)
		require.Zero(t, r.Doubled)
		require.Zero(t, r.Overtaken)
		require.Zero(t, r.Imbalance)
		require.Equal(t, o.Events, r.Receipted+r.Local)
		require.Positive(t, r.Rate)
		require.Positive(t, r.CPU)
		require.Positive(t, r.Memory)
		if r.Policy == edgePolicy {
			require.Equal(t, o.Events, r.Local)
		}
	}
}

// A tally detects repeated and missing events.
func TestTally(t *testing.T) {
	y, now := newTally(5), time.Now()
	y.take([]int{0, 1, 2}, now)
	y.take([]int{2, 4, -1, 5}, now.Add(time.Second))
	require.Equal(t, 4, y.concluded())
	require.Equal(t, []int{4, 1, 2}, []int{y.arrived, y.repeated, y.foreign})
	require.Equal(t, time.Second, y.last.Sub(y.first))
	y.tellLocal(1, now)
	y.tellLocal(0, now)
	require.Equal(t, 5, y.concluded(), "what is done stays done")
}

// The latency of an event sent late because of slow earlier events includes the delay.
func TestLatencyIsCountedFromWhenAnEventIsDue(t *testing.T) {
	y, began := newTally(100), time.Now()
	require.Zero(t, y.quantile(0.5))
	y.schedule(began, 1000)
	y.take([]int{0, 1, 2}, began.Add(10*time.Millisecond))
	require.InDelta(t, 9, y.quantile(0.5), 1e-9)
	require.InDelta(t, 9, y.quantile(0.99), 1e-9)
	require.InDelta(t, 10, y.quantile(1), 1e-9)
	y.take([]int{16, 8, 24, 9}, began)
	require.Equal(t, 1, y.overtaken, "8 came after 16, which is of the same device; 9 is of another one")
}

func TestMediansAreThoseOfEachFigure(t *testing.T) {
	c := Case{Broker: Embedded, Subject: "service"}
	var table bytes.Buffer
	printer{table: &table, markdown: true}.medians([]Case{c}, []Result{
		{Case: c, CPU: 30, Rate: 5, Lost: 1}, {Case: c, CPU: 10, Rate: 7}, {Case: c, CPU: 20, Rate: 6, Lost: 2}, {Case: Case{Subject: "floor"}, CPU: 99},
	})
	require.Contains(t, table.String(), "| embedded | service |  |  | 0 | 6 | 20.0 | 0 | 0.00 | 0.00 | 3 |")
	require.NotContains(t, table.String(), "floor")
}

// CPU of other processes is distinguished from that of the bench.
func TestUsageIsThatOfTheProcess(t *testing.T) {
	other := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
	require.NoError(t, other.Start())
	before, err := usageOf(os.Getpid())
	require.NoError(t, err)
	for range 20 {
		time.Sleep(20 * time.Millisecond)
	}
	after, err := usageOf(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	r := Result{Events: 1}
	r.since(&before, &after)
	require.Positive(t, r.Foreign)
	require.Greater(t, r.Wakeups, 5.0)
}

func TestNumberOf(t *testing.T) {
	for range 1000 {
		n := rand.IntN(1 << 30)
		require.Equal(t, n, numberOf(string(appendID(nil, n))))
	}
	for _, id := range []string{"", "00000001-0000-4000-8000-000000000002", "c0ffee00-0000-4000-8000-zzzzzzzzzzzz", "x"} {
		require.Equal(t, -1, numberOf(id), id)
	}
}

// A client library can read the load's handwritten packets.
func TestPublishPacket(t *testing.T) {
	var m maker
	for qos := range 2 {
		payload := m.make(70_000, time.Now())
		p, err := packets.ReadPacket(bytes.NewReader(appendPublish(nil, topics()[3], qos, 70_000, payload)))
		require.NoError(t, err)
		got := p.(*packets.PublishPacket)
		require.Equal(t, topics()[3], got.TopicName)
		require.EqualValues(t, qos, got.Qos)
		require.Equal(t, payload, got.Payload)
		if qos > 0 {
			require.EqualValues(t, 70_000%65535+1, got.MessageID)
		}
	}
}

func TestMessageIsAnEventOfEdgeX(t *testing.T) {
	var m maker
	var e floorEnvelope
	var r floorRequest
	at := time.Now()
	require.NoError(t, json.Unmarshal(m.make(7, at), &e))
	require.Equal(t, "application/json", e.ContentType)
	require.NoError(t, json.Unmarshal(e.Payload, &r))
	require.Equal(t, 7, numberOf(r.Event.ID))
	require.Equal(t, at.UnixNano(), r.Event.Origin)
	require.Equal(t, "bench-7", r.Event.Device)
	require.Equal(t, "2.070000e+01", r.Event.Readings[0].Value)
}

func TestCPUTimeOfThisProcess(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	for start := time.Now(); time.Since(start) < 150*time.Millisecond; {
	}
	after, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, after, before)
	peak, err := peakMemory(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, peak, 1.0)
}

func TestOptionsThatAreWrongAreNamed(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"-broker":     func(o *Options) { o.Brokers = "rabbit" },
		"-qos":        func(o *Options) { o.QoS = "2" },
		"-events 0":   func(o *Options) { o.Events = 0 },
		"-rounds 0":   func(o *Options) { o.Rounds = 0 },
		"-idle 1ms":   func(o *Options) { o.Idle = time.Millisecond },
		"-idle 2h":    func(o *Options) { o.Idle = 2 * time.Hour },
		"-rate -1":    func(o *Options) { o.Rate = -1 },
		"-window 99:": func(o *Options) { o.Window = 99 },
	} {
		o := DefaultOptions()
		change(&o)
		require.ErrorContains(t, Run(t.Context(), o, io.Discard, io.Discard), want)
	}
}

// A broker with Nagle's algorithm is measured only on request. A drain with the embedded broker has mosquitto on its link.
func TestBrokersSendAtOnce(t *testing.T) {
	for _, kind := range Brokers() {
		require.Equal(t, kind != MosquittoNagle, strings.Contains(mosquittoSettings[kind], "set_tcp_nodelay true"), kind)
	}
}

// Every row with a recorded ratio is checked, and an unmeasured row is a failure.
func TestRatiosAreHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ratios")
	require.NoError(t, os.WriteFile(path, []byte("# row ratio\n\nmaximum 0.5\nedge 1\n"), 0o600))
	recorded, err := readRatios(path)
	require.NoError(t, err)
	row := func(name, subject string, ratio float64) Result {
		return Result{Case: Case{Row: name, Subject: subject}, CPURatio: ratio}
	}
	floor := row("maximum", "floor", 1)
	require.NoError(t, holdTo(recorded, []Result{floor, row("maximum", "service", 0.57), row("edge", "service", 1.1), row("5k/s", "service", 9)}))
	require.ErrorContains(t, holdTo(recorded, []Result{floor, row("maximum", "service", 0.58), row("edge", "service", 1.1)}), "maximum: CPU")
	require.ErrorContains(t, holdTo(recorded, []Result{floor, row("edge", "service", 1.1)}), "maximum: the recorded ratio cannot be checked")
	require.NoError(t, holdTo(nil, nil))
	for _, bad := range []string{"maximum", "maximum x", "maximum -1", "maximum NaN"} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err := readRatios(path)
		require.ErrorContains(t, err, path, bad)
	}
	_, err = readRatios(path + "x")
	require.Error(t, err)
}

// Each form of an event is valid EdgeX JSON with the expected values.
func TestEventsHaveTheirForm(t *testing.T) {
	for _, m := range []maker{{}, {readings: 5}, {size: 4096}, {readings: 3, size: 4096}} {
		var e struct{ Payload []byte }
		require.NoError(t, json.Unmarshal(m.make(7, time.Now()), &e))
		var r floorRequest
		require.NoError(t, json.Unmarshal(e.Payload, &r))
		require.Equal(t, 7, numberOf(r.Event.ID))
		require.Len(t, r.Event.Readings, max(m.readings, 1))
		for i, one := range r.Event.Readings[1:] { // numbers with names of their own
			require.Equal(t, [2]string{source + fmt.Sprint(i+1), "2.070000e+01"}, [2]string{one.Resource, one.Value})
		}
		require.Equal(t, source, r.Event.Readings[0].Resource)
		if m.size > 0 {
			require.Len(t, r.Event.Readings[0].Value, m.size)
		}
	}
}

// If fresh data may overtake a backlog, each of the two keeps its order.
func TestTallyOfADrain(t *testing.T) {
	y, now := newTally(80), time.Now()
	y.passes = true
	y.take([]int{40, 0, 48, 8, 16}, now)
	require.Zero(t, y.overtaken)
	y.take([]int{32, 24}, now)
	require.Equal(t, 1, y.overtaken)
}

// Invalid options are rejected before anything is started.
func TestRowsAndOptionsThatMeanNothing(t *testing.T) {
	for why, change := range map[string]func(*Options){
		"-rows": func(o *Options) { o.Rows = "maximum,fast" },
		"-qos":  func(o *Options) { o.QoS = "1,2" },
		"-hold": func(o *Options) { o.Hold = "missing" },
		"drain": func(o *Options) { o.Drain, o.Rate = true, 5 },
	} {
		o := DefaultOptions()
		o.Dir = t.TempDir()
		change(&o)
		require.ErrorContains(t, Run(t.Context(), o, io.Discard, io.Discard), why)
	}
}

// Unknown figures of a process are an error, those of the machine −1.
func TestUsageByHand(t *testing.T) {
	const none = 1 << 30 // no process has the number
	_, err := cpuTime(none)
	require.ErrorContains(t, err, "reading the CPU time, which needs Linux")
	_, err = peakMemory(none)
	require.ErrorContains(t, err, "reading the peak of memory")
	_, err = usageOf(none)
	require.Error(t, err)
	require.Zero(t, wakeups(none))
	for used := time.Duration(0); used == 0; {
		used, err = cpuTime(os.Getpid())
		require.NoError(t, err)
	}
	u, err := usageOf(os.Getpid(), func() time.Duration { return time.Hour })
	require.NoError(t, err)
	require.GreaterOrEqual(t, u.bench, time.Hour+2*u.cpu)
	require.GreaterOrEqual(t, u.machine, u.cpu)
	at := time.Now()
	r := Result{Events: 1000}
	use := func(seconds, cpu, bench, machine time.Duration, wakeups int64) *usage {
		return &usage{at: at.Add(seconds * time.Second), cpu: cpu * time.Second, bench: bench * time.Second, machine: machine, wakeups: wakeups}
	}
	r.since(use(0, 1, 1, 10*time.Second, 5), use(10, 3, 5, 19*time.Second, 55))
	require.InDelta(t, 2000, r.CPU, 1e-9, "µs an event")
	require.InDelta(t, 20, r.Load, 1e-9)
	require.InDelta(t, 5, r.Wakeups, 1e-9)
	require.InDelta(t, 50, r.Foreign, 1e-9, "of nine seconds, four are the bench's")
	r.since(use(0, 1, 1, 0, 5), use(10, 3, 5, 3*time.Second, 55))
	require.Zero(t, r.Foreign, "rounded to less than the bench's own")
	r.since(use(0, 1, 1, 0, 5), use(10, 3, 5, 5*time.Second, 55))
	require.InDelta(t, 10, r.Foreign, 1e-9, "since the machine's start")
	for _, machine := range [][2]time.Duration{{-1, time.Hour}, {time.Second, -1}, {-1, -1}} {
		r.since(use(0, 1, 1, machine[0], 5), use(10, 3, 5, machine[1], 55))
		require.InDelta(t, -1, r.Foreign, 0)
	}
	r = Result{}
	r.since(use(0, 1, 1, -1, 0), use(1, 2, 2, -1, 0))
	require.InDelta(t, 1e6, r.CPU, 1e-9, "without an event")
}

// An event waits while the window is full, at QoS 1 also while too many acknowledgements are missing. The buffer is flushed before the wait.
func TestRoomForAnEvent(t *testing.T) {
	for _, c := range []struct {
		n, concluded, acked, qos int
		free                     bool
	}{
		{9, 0, 9, 1, true}, {10, 0, 10, 1, false}, {10, 1, 10, 1, true}, {999, 995, 0, 1, true}, {1000, 995, 0, 1, false}, {1000, 995, 0, 0, true}, {1000, 995, 1, 1, true},
	} {
		l := &load{window: 10, qos: c.qos, concluded: c.concluded, acked: c.acked, err: io.ErrClosedPipe}
		l.moved = sync.NewCond(&l.mu)
		var sent bytes.Buffer
		out := bufio.NewWriter(&sent)
		_, _ = out.WriteString("x")
		err := l.room(c.n, out)
		require.Equal(t, c.free, err == nil, "%+v", c)
		require.Equal(t, !c.free, sent.Len() == 1, "%+v", c)
	}
}

// A table has its headings, as lines or in Markdown, and each figure below its own.
func TestTheTable(t *testing.T) {
	r := Result{
		Case: Case{Broker: Embedded, Subject: "service", QoS: 1}, Rate: 1, CPU: 2, Memory: 3, RateRatio: 4, CPURatio: 5, Lost: 6, Doubled: 7, Overtaken: 8, P50: 9, P99: 10,
		Writes: 11, Written: 12, Wakeups: 13, Load: 14, Foreign: 15,
	}
	o := DefaultOptions()
	o.Events, o.Window = 7, 8
	var text bytes.Buffer
	for _, markdown := range []bool{false, true} {
		p := printer{table: &text, markdown: markdown}
		p.header(o)
		p.row(r)
		p.medians([]Case{r.Case, {Subject: "none"}}, []Result{r, r})
	}
	golden.Require(t, "table.golden", text.String())
	var lines bytes.Buffer
	printer{table: io.Discard, out: &lines, json: true}.row(r)
	var again Result
	require.NoError(t, json.Unmarshal(lines.Bytes(), &again))
	require.Equal(t, r, again)
}
