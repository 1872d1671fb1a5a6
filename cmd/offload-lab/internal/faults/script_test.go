package faults

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/badlink"
)

func TestAScriptEndsWithTheStepThatFails(t *testing.T) {
	var did string
	named := func(name string, err error) step {
		return func(context.Context) error {
			did += name
			return err
		}
	}
	require.NoError(t, inTurn(t.Context(), named("a", nil), script(named("b", nil), then(func() { did += "c" })), named("d", nil)))
	require.Equal(t, "abcd", did)
	wrong := errors.New("wrong")
	require.ErrorIs(t, inTurn(t.Context(), named("e", nil), named("f", wrong), named("g", nil)), wrong)
	require.Equal(t, "abcdef", did)
}

// A pause is a random part of a time, half as long in quick rounds; a rest is the whole time. Both end with the run.
func TestPausesAndRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(s *system, do step) time.Duration {
			s.random = rand.New(rand.NewPCG(1, 0))
			begin := time.Now()
			require.NoError(t, do(t.Context()))
			return time.Since(begin)
		}
		s := &system{}
		require.Equal(t, time.Minute, took(s, s.resting(time.Minute)))
		whole := took(s, s.pausing(time.Minute))
		require.Greater(t, whole, time.Second)
		require.Less(t, whole, time.Minute)
		again := s.pausing(time.Minute) // one step may stand in a script twice
		require.NotEqual(t, whole, took(s, script(again, again))-whole)
		s.cfg.Quick = true
		require.InDelta(t, whole/2, took(s, s.pausing(time.Minute)), 1)
		again = s.pausing(time.Minute)
		require.Greater(t, took(s, script(again, again)), whole/2)
		s.cfg.pace = 60
		require.Equal(t, time.Second, took(s, s.resting(time.Minute)))
		ended, end := context.WithCancel(t.Context())
		end()
		require.ErrorIs(t, s.resting(time.Hour)(ended), context.Canceled)
	})
}

// One in four cases starts anew.
func TestSometimesAllBeginsAnew(t *testing.T) {
	s, on, anew := &system{random: rand.New(rand.NewPCG(1, 0))}, 0, 0
	for range 4000 {
		require.NoError(t, s.orAgain(then(func() { on++ }), then(func() { anew++ }))(t.Context()))
	}
	require.InDelta(t, 1000, anew, 100)
	require.Equal(t, 4000, on+anew)
}

func TestWaitingEndsWhenItHoldsFailsOrTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, asked := time.Now(), 0
		require.NoError(t, until(t.Context(), time.Minute, "x", func() (bool, error) { asked++; return asked == 5, nil }))
		require.Equal(t, 4*30*time.Millisecond, time.Since(begin))
		require.ErrorIs(t, until(t.Context(), time.Minute, "x", func() (bool, error) { return false, io.EOF }), io.EOF)
		begin = time.Now()
		require.ErrorContains(t, until(t.Context(), time.Minute, "the sky falls", func() (bool, error) { return false, nil }),
			"this did not happen within 1m0s: the sky falls")
		require.InDelta(t, time.Minute, time.Since(begin), float64(31*time.Millisecond))
		ended, end := context.WithCancel(t.Context())
		end()
		require.ErrorIs(t, until(ended, time.Minute, "x", func() (bool, error) { return false, nil }), context.Canceled)
	})
}

// Progress may take any time; a figure without change ends the wait after a while.
func TestWhatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, figure := &system{}, 0
		require.NoError(t, s.advancing(t.Context(), func() (bool, int, error) {
			time.Sleep(patience / 2)
			figure++
			return figure == 10, figure, nil
		}))
		begin := time.Now()
		require.ErrorIs(t, s.advancing(t.Context(), func() (bool, int, error) { return false, 7, nil }), errStuck)
		require.InDelta(t, patience, time.Since(begin), float64(101*time.Millisecond))
		require.ErrorIs(t, s.advancing(t.Context(), func() (bool, int, error) { return false, 0, io.EOF }), io.EOF)
		ended, end := context.WithCancel(t.Context())
		end()
		require.ErrorIs(t, s.advancing(ended, func() (bool, int, error) { return false, 0, nil }), context.Canceled)
	})
}

// Each kind affects the parts as described, and leaves them running with a healthy link, or with its fault until the next check.
func TestEachKindDoesWhatItSays(t *testing.T) {
	f := fake(t, 1)
	edge, cloud := f.started(t, "edge"), f.started(t, "cloud")
	require.Equal(t, []int{1, 1}, []int{edge, cloud})
	bus, broker := f.bus.process, f.broker.process
	for name, want := range map[string]struct{ edge, cloud, edgeKills, cloudKills bool }{
		"kill-edge": {edge: true, edgeKills: true}, "kill-cloud": {cloud: true, cloudKills: true}, "kill-both": {true, true, true, true},
		"term-edge": {edge: true}, "cut": {}, "slow": {}, "stall": {}, "reset": {}, "puback": {}, "receipt": {}, "broker": {}, "bus": {},
		"late": {cloud: true, cloudKills: true}, "second": {}, "acl": {}, "same-id": {}, "restored": {edge: true, edgeKills: true}, "closing": {},
	} {
		list, err := chosen([]string{name})
		require.NoError(t, err)
		before, kills := []int{f.started(t, "edge"), f.started(t, "cloud")}, f.report.Kills
		require.NoError(t, list[0].strike(f.system, t.Context()), name)
		require.Equal(t, want.edge, f.started(t, "edge") > before[0], "%s starts app-offload", name)
		require.Equal(t, want.cloud, f.started(t, "cloud") > before[1], "%s starts offload-cloud", name)
		require.Equal(t, want.edgeKills, f.report.Kills.Edge > kills.Edge, "%s kills app-offload", name)
		require.Equal(t, want.cloudKills, f.report.Kills.Cloud > kills.Cloud, "%s kills offload-cloud", name)
		require.False(t, ended(f.edge.Load().Edge) || ended(f.cloud.Process) || ended(f.bus.process) || ended(f.broker.process), name)
		require.NoError(t, f.check(t.Context()), name)
		require.Empty(t, f.violations(), name)
	}
	require.True(t, ended(bus) && ended(broker), "both brokers were started anew")
	require.Equal(t, 1, f.started(t, "second"))
	require.Equal(t, 1, f.restored)
	require.Positive(t, f.report.Edge.Stop)
	require.Equal(t, 18*stretch+2*few, f.report.Ordered)
	require.NoError(t, f.finish(t.Context()))
	require.Zero(t, f.report.OutOfOrder+f.report.Doubled+f.report.Lost)
	require.GreaterOrEqual(t, f.report.Stored, f.report.Accepted)
	require.NoError(t, f.verdict())
}

// Huge messages go to each target once, and an event above the broker's limit goes through a link that rejects it.
func TestOversizedMessages(t *testing.T) {
	f := fake(t, 3)
	for f.garbage < 1 || f.specials < 1 {
		require.NoError(t, f.oversized(t.Context()))
	}
	require.NoError(t, f.finish(t.Context()))
	require.Empty(t, f.violations())
}

// A process that exited unexpectedly is an error of the round.
func TestAProcessThatEndedByItselfIsNamed(t *testing.T) {
	f := fake(t, 1)
	f.cloud.Kill()
	f.edge.Load().Edge.Kill()
	f.broker.process.Kill()
	for want, do := range map[string]step{
		"app-offload exited unexpectedly":   f.killEdge,
		"offload-cloud exited unexpectedly": f.killBoth,
		"broker exited unexpectedly":        f.killBroker,
	} {
		require.ErrorContains(t, do(t.Context()), want)
	}
	for _, do := range []step{f.stopEdge, f.awaitEdge} {
		require.ErrorContains(t, do(t.Context()), "app-offload exited unexpectedly")
	}
	require.ErrorContains(t, f.awaiting(f.cloud)(t.Context()), "offload-cloud exited unexpectedly")
	require.Zero(t, f.report.Kills)
	require.NoError(t, f.broker.start(t.Context()))
}

// Events of a denied class may be missing; any other missing event is a violation.
func TestOnlyTheDeniedClassMayWait(t *testing.T) {
	f := fake(t, 1)
	f.put(t, "lose", "4 9") // of pump-4
	require.NoError(t, f.publishing(10, 0)(t.Context()))
	require.NoError(t, f.publisher.settled(t.Context()))
	acl := func() string {
		raw, err := os.ReadFile(f.broker.acl())
		require.NoError(t, err)
		return string(raw)
	}
	require.NotContains(t, acl(), "deny")
	require.NoError(t, f.denying("offload/v1/+/batch/camera")(t.Context()))
	require.Contains(t, acl(), "user cloud\ntopic readwrite #\ntopic deny offload/v1/+/batch/camera\n")
	require.NoError(t, f.denyClass(t.Context()))
	require.NotContains(t, acl(), "deny")
	require.Empty(t, f.violations())
	require.Equal(t, []int{4, 9}, f.database.missing(10))
}

// A fault of the link stays until it is healed.
func TestTroubleStandsUntilItIsHealed(t *testing.T) {
	l, err := badlink.New("127.0.0.1:9")
	require.NoError(t, err)
	defer l.Close()
	s := &system{link: l, cfg: Config{pace: 1000}}
	left := 0
	for seed := range uint64(60) {
		s.random = rand.New(rand.NewPCG(seed, 0))
		require.NoError(t, troubled("cut")(s, t.Context()))
		if !reaches(l.Addr) {
			left++
		}
		require.NoError(t, s.heal(t.Context()))
		require.True(t, reaches(l.Addr))
	}
	require.InDelta(t, 20, left, 12, "a third stays")
	require.NoError(t, s.cut(t.Context()))
	require.False(t, reaches(l.Addr))
}
