package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const policies = "sys/devices/system/cpu/cpufreq/policy"

// scaled is a node with two frequency domains of 800–3,000 and 500–2,000 MHz, and a governor over it.
type scaled struct {
	tree
	*Governor
	load, late float64
	said       []string
	now        time.Time
}

func newScaled(t *testing.T, edits ...func(*Config)) *scaled {
	t.Helper()
	s := &scaled{tree: newTree(t), now: time.Unix(1000, 0)}
	for i, khz := range [][2]int{{800_000, 3_000_000}, {500_000, 2_000_000}} {
		dir := fmt.Sprint(policies, i, "/")
		s.put(dir+"cpuinfo_min_freq", fmt.Sprintln(khz[0]))
		s.put(dir+"cpuinfo_max_freq", fmt.Sprintln(khz[1]))
		s.put(dir+"scaling_max_freq", fmt.Sprintln(khz[1]))
	}
	s.govern(t, edits...)
	return s
}

func (s *scaled) govern(t *testing.T, edits ...func(*Config)) {
	t.Helper()
	c := s.config()
	c.Governor, c.GovernorHold = true, "5s"
	for _, edit := range edits {
		edit(&c)
	}
	var err error
	s.Governor, err = NewGovernor(c, func() *State { return &State{CPU: s.load} }, func() float64 { return s.late },
		func(format string, args ...any) { s.said = append(s.said, fmt.Sprintf(format, args...)) })
	require.NoError(t, err)
}

// pass advances by so many seconds, with a step each.
func (s *scaled) pass(seconds int) {
	for range seconds {
		s.now = s.now.Add(time.Second)
		s.step(s.now)
	}
}

func (s *scaled) khz(i int) string {
	b, err := os.ReadFile(filepath.Join(s.root, fmt.Sprint(policies, i, "/scaling_max_freq")))
	require.NoError(s.t, err)
	return strings.TrimSpace(string(b))
}

func TestGovernorFollowsTheLoadWithHysteresis(t *testing.T) {
	s := newScaled(t)
	s.load = 20
	s.pass(5)
	require.Equal(t, "3000000", s.khz(0), "not before the load has been low for a while")
	s.pass(1)
	require.Equal(t, []string{"2400000", "1600000"}, []string{s.khz(0), s.khz(1)}, "one step")
	s.load = 50
	s.pass(100)
	require.Equal(t, "2400000", s.khz(0), "between the bands nothing changes")
	s.load = 20
	s.pass(4)
	s.load = 50
	s.pass(1)
	s.load = 20
	s.pass(4)
	require.Equal(t, "2400000", s.khz(0), "low for a while means without a break")
	s.pass(60)
	require.Equal(t, []string{"1200000", "800000"}, []string{s.khz(0), s.khz(1)}, "never below the floor")
	s.load = 90
	s.pass(1)
	require.Equal(t, []string{"3000000", "2000000"}, []string{s.khz(0), s.khz(1)}, "all of it immediately")
	s.load = 95
	s.pass(1)
	require.Contains(t, s.Status().Reason, "90 % busy", "the highest frequency is not written again")
	require.Empty(t, s.said)
}

func TestGovernorTakesOneStepAHoldTime(t *testing.T) {
	s := newScaled(t)
	s.load = 20
	var levels []string
	for range 17 {
		s.pass(1)
		levels = append(levels, s.khz(0))
	}
	var steps []int // after how many seconds
	for i := 1; i < len(levels); i++ {
		if levels[i] != levels[i-1] {
			steps = append(steps, i+1)
		}
	}
	require.Equal(t, []int{6, 11, 16}, steps, "%v", levels)
}

func TestGovernorGivesWayToLateWork(t *testing.T) {
	s := newScaled(t)
	s.load = 5
	s.pass(20)
	require.NotEqual(t, "3000000", s.khz(0))
	s.late = 0.2
	s.pass(1)
	require.Equal(t, "3000000", s.khz(0))
	require.Contains(t, s.Status().Reason, "0.2 s late")
	s.pass(100)
	require.Equal(t, "3000000", s.khz(0), "however low the load is")
}

// For any load and lateness, the level stays in bounds, and never falls while work is late or the load is high.
func TestGovernorNeverSlowsWhatIsLate(t *testing.T) {
	s := newScaled(t)
	rapid.Check(t, func(r *rapid.T) {
		s.level, s.lowSince = 1, time.Time{}
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			s.load, s.late = anyLoad.Draw(r, "load"), rapid.SampledFrom([]float64{0, -1, 1e-9, 3}).Draw(r, "late")
			before := s.level
			s.pass(rapid.IntRange(1, 8).Draw(r, "seconds"))
			if s.level < before && (s.late > 0 || !(s.load <= 30)) {
				r.Fatalf("slowed from %v to %v at load %v, %v s late", before, s.level, s.load, s.late)
			}
			if !(s.level >= 0.4 && s.level <= 1) {
				r.Fatalf("level %v", s.level)
			}
		}
	})
}

var anyLoad = rapid.OneOf(rapid.Float64Range(0, 100), rapid.Just(10.0))

func TestGovernorAdvisesWhereItMayNotWrite(t *testing.T) {
	s := newScaled(t)
	s.remove(policies + "1/scaling_max_freq")
	s.put(policies+"1/scaling_max_freq/x", "") // not even root can write to a folder
	s.load = 5
	s.pass(60)
	require.Len(t, s.said, 1, "said once")
	require.Contains(t, s.said[0], "only advises")
	require.Equal(t, "advising", s.Status().State)
	require.InDelta(t, 1200, s.Status().MHz, 1e-9, "the advised frequency")
	require.Equal(t, "3000000", s.khz(0), "the others are not slowed either")
}

func TestGovernorWithoutAnythingToScale(t *testing.T) {
	s := &scaled{tree: newTree(t)}
	s.govern(t)
	s.Run(t.Context())
	require.Equal(t, GovernorStatus{State: "absent", Share: 1, Reason: "there is no cpufreq below " + s.config().SysfsRoot}, *s.Status())
	require.Len(t, s.said, 1)
	var off *Governor
	require.Nil(t, off.Status())
}

// A scalable domain has a valid lowest and highest frequency, which may be equal.
func TestWhatCanBeScaled(t *testing.T) {
	for _, row := range []struct {
		low, high string
		most      float64
		want      []float64 // kHz
	}{
		{"800", "3000", 0, []float64{800, 3000}},
		{"800", "800", 0, []float64{800, 800}},
		{"800", "3000", 1500, []float64{800, 1500}},
		{"800", "3000", 500, []float64{800, 800}},
		{"800", "3000", 5000, []float64{800, 3000}},
		{"3000", "800", 0, nil},
		{"0", "800", 0, nil},
		{"-1", "800", 0, nil},
		{"1", "2", 0, []float64{1, 2}},
		{"", "800", 0, nil},
		{"800", "", 0, nil},
		{"800", "", 1000, nil},
		{"", "800", 1000, nil},
	} {
		for _, layout := range []string{"policy3/", "../cpu3/cpufreq/"} {
			tr := newTree(t)
			dir := filepath.Join("sys/devices/system/cpu/cpufreq", layout) + "/"
			if row.low != "" {
				tr.put(dir+"cpuinfo_min_freq", row.low+"\n")
			}
			if row.high != "" {
				tr.put(dir+"cpuinfo_max_freq", row.high+"\n")
			}
			var have []float64
			for _, d := range findDomains(filepath.Join(tr.root, "sys"), row.most) {
				have = append(have, d.low, d.high)
			}
			require.Equal(t, row.want, have, "%s %+v", layout, row)
		}
	}
}

func TestGovernorIsOffByDefault(t *testing.T) {
	g, err := NewGovernor(newTree(t).config(), nil, nil, nil)
	require.NoError(t, err)
	require.Nil(t, g)
}

func TestGovernorKeepsToTheConfiguredMaximum(t *testing.T) {
	s := newScaled(t, func(c *Config) { c.GovernorMHz = 1500 })
	s.set(1, "test")
	require.Equal(t, []string{"1500000", "1500000"}, []string{s.khz(0), s.khz(1)})
}

func TestGovernorGivesEverythingBackAtItsEnd(t *testing.T) {
	s := newScaled(t)
	s.load = 5
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		s.put(policies+"0/scaling_max_freq", "900000\n") // by one that was killed
		go func() { defer close(ended); s.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, "3000000", s.khz(0), "and at its beginning")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Less(t, s.Status().Share, 1.0)
		cancel()
		<-ended
	})
	require.Equal(t, "3000000", s.khz(0))
}

func TestGovernorBandsAreValidated(t *testing.T) {
	c := newTree(t).config()
	c.GovernorLow, c.GovernorHigh, c.GovernorHold, c.GovernorFloor = 60, 70, "1h", 0
	for _, key := range []string{"GovernorHigh", "GovernorHold", "GovernorFloor"} {
		require.ErrorContains(t, c.Validate(), "Host."+key)
	}
	c.Governor = true
	_, err := NewGovernor(c, nil, nil, nil)
	require.Equal(t, c.Validate(), err)
}

// Before its first change the governor shows the highest frequency, or why it cannot act.
func TestTheStatusAtTheBegin(t *testing.T) {
	want := GovernorStatus{State: "acting", MHz: 3000, Share: 1, Reason: "not changed yet"}
	s := newScaled(t)
	require.Equal(t, want, *s.Status())
	require.NoError(t, os.RemoveAll(filepath.Join(s.root, policies+"1")))
	s.govern(t)
	require.Equal(t, want, *s.Status(), "one domain is enough")
}

// A load in between or above restarts the time for which the load must be low.
func TestLowLoadMustLast(t *testing.T) {
	for _, between := range []float64{60, 99} {
		s := newScaled(t)
		s.load = 20
		s.pass(20)
		s.load = 99
		s.pass(1)
		full := s.khz(0)
		s.load = 20
		s.pass(4)
		s.load = between
		s.pass(1)
		s.load = 20
		s.pass(5)
		require.Equal(t, full, s.khz(0), "not for %v yet, since it was %g %%", s.hold, between)
		s.pass(1)
		require.NotEqual(t, full, s.khz(0))
	}
}
