package ctl

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
)

func TestDecimals(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 1.23456: "1.23", -0.001234: "-0.00123", 12.345: "12.3", 99.94: "99.9", 99.96: "100", 100: "100", -100: "-100", 123.6: "124",
		999999: "999999", -1234567.8: "-1234568", 999999999: "999999999", 1e9: "1e+09", -1.234e12: "-1.23e+12", 1e-6: "1e-06",
	} {
		require.Equal(t, want, decimals(v))
	}
}

// The formats of figures, on both sides of each step.
func TestFiguresAsTexts(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1024.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", 1 << 30: "1.0 GiB", 1<<30 - 1: "1024.0 MiB",
	} {
		require.Equal(t, want, size(v))
	}
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", -999: "-999", -1000: "-1,000", 123456: "123,456", 1234567: "1,234,567", -1234567: "-1,234,567"} {
		require.Equal(t, want, count(n))
	}
	for p, want := range map[float64]string{0: "0 %", 0.01: "under 1 %", 0.49: "under 1 %", 0.5: "0 %", 0.51: "1 %", 50.4: "50 %", 99.4: "99 %", 99.5: "over 99 %", 99.99: "over 99 %", 100: "100 %", 120: "120 %"} {
		require.Equal(t, want, percent(p), p)
	}
	require.Equal(t, "a 1, c 2,000", byReason(map[string]uint64{"c": 2000, "a": 1, "b": 0}))
	require.Empty(t, byReason(map[string]int64{"b": 0}))
	require.Equal(t, "a: b; c", oneLine("\na:\nb\nc\n"))
	require.Equal(t, "a�[31m�b", clean("a\x1b[31m\nb"))
	for in, want := range map[any]any{1: 1., uint64(math.MaxUint64): float64(math.MaxUint64), 1.5: 1.5, "1": nil, true: nil} {
		f, ok := number(in)
		require.Equal(t, want != nil, ok, in)
		if ok {
			require.Equal(t, want, f)
		}
	}
}

// The part above the segments: a line for each thing that exists, and none otherwise.
func TestTheOverviewOfASpool(t *testing.T) {
	r := &spool.Report{Epoch: "e1", State: "ok", Next: 12, Appended: 1011, Done: 9, Held: 1002, Bytes: 2048, Disk: 1 << 20}
	require.Equal(t, "spool    /s, epoch e1\nstate    ok; 1,011 appended, 9 done, next sequence 12\nheld     1,002 records, 2.0 KiB; segments on disk 1.0 MiB\n", overview("/s", r))
	r.InUse, r.Saved, r.Torn, r.Locked = true, time.Unix(0, 0), 1, 1
	r.Classes, r.Kept = map[string]int{"camera": 2, "default": 1000}, []string{"a", "b", "c", "d", "e", "f"}
	text := overview("/s", r)
	for _, line := range []string{
		"\n         in use by a process", "\nstate    ok, written 1970-01-01 00:00:00 UTC; ", "\nclasses  ", "\ntorn     1 B of an unconfirmed commit", "\nlocked   1 records, ",
		"\naside    in /s/quarantine, damaged places found before: 6, a, b, c, d, e\n",
	} {
		require.Contains(t, text, line)
	}
	require.Equal(t, 8, strings.Count(text, "\n"))
}

// A missing sensor is not shown.
func TestTheVitalsOfANode(t *testing.T) {
	v := &view{}
	n := &v.Node
	n.CPU, n.Cores, n.Memory, n.QueueTasks, n.Temperature, n.Watts = 12, 4, 99.9, 1000, math.NaN(), math.NaN()
	const plain = "CPU 12 % of 4 cores, memory over 99 %, 1,000 tasks waiting for a local worker"
	require.Equal(t, plain, v.vitals())
	n.Temperature = 41.6
	require.Equal(t, plain+", 42 °C", v.vitals())
	n.Watts, n.OnBattery, n.Battery = 3.25, true, 7
	n.QueueTasks = 1
	require.Contains(t, v.vitals(), ", 1 task waiting for a local worker")
	n.QueueTasks = 1000
	require.Equal(t, plain+", 42 °C, 3.2 W, on battery (7 %)", v.vitals())
}

// Zeros are omitted, and times change their unit at a thousandth and at a hundred.
func TestOutcomesTimesAndSpoolsAsTexts(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.0 ms", 0.000999: "999 µs", 0.001: "1.0 ms", -0.0005: "-500 µs", 0.9994: "999.4 ms", 1: "1.00 s", 99.99: "99.99 s", 100: "2 min", math.Inf(1): "never", math.NaN(): "never",
	} {
		require.Equal(t, want, duration(v))
	}
	for v, want := range map[float64]string{
		-1: "0 s", 0: "0 s", 99: "99 s", 100: "2 min", 5999: "100 min", 6000: "2 h", 72*3600 - 1: "72 h", 72 * 3600: "3 days",
	} {
		require.Equal(t, want, age(v))
	}
	d := &shownDecision{}
	d.Outcome.Known, d.Outcome.Time = true, 0.5
	require.Equal(t, "took 500.0 ms", d.outcome())
	d.Outcome.Bytes = 1
	require.Equal(t, "took 500.0 ms, 1 B", d.outcome())
	d.Deadline = 1
	require.Equal(t, "took 500.0 ms, too late, 1 B", d.outcome())
	d.Outcome.Met = true
	require.Equal(t, "took 500.0 ms, in time, 1 B", d.outcome())
	v := &view{}
	require.Equal(t, "spool 0 % full, 0 of 0 MiB, 0 tasks", v.spool())
	v.Spool.Tasks, v.Spool.OldestAge = 1, 3
	require.Equal(t, "spool 0 % full, 0 of 0 MiB, 1 task, oldest 3 s", v.spool())
	v.Spool.Tasks, v.Spool.OldestAge, v.Undecided.Tasks = 2, 3, 1
	require.Equal(t, "spool 0 % full, 0 of 0 MiB, 2 tasks, oldest 3 s, 1 of them parked", v.spool())
	var b strings.Builder
	require.NoError(t, writeRaw(&b, []byte(`{"a":1}`)))
	require.Equal(t, "{\n  \"a\": 1\n}\n", b.String())
	_, err := newProxy("http://%", "k", nil)
	require.ErrorContains(t, err, `-url "http://%"`)
}
