package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// Any sequence of movements leaves a balanced account, as long as the spool works correctly; a spool that lost or invented a record shows as a
// balance of exactly that.
func TestLedgerBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s SpoolCounts
		s.Dropped = map[string]int64{}
		l := New(Saved{}, s)
		inFlight := 0
		for range rapid.IntRange(0, 50).Draw(t, "moves") {
			n := rapid.IntRange(0, 5).Draw(t, "n")
			switch rapid.IntRange(0, 7).Draw(t, "move") {
			case 0, 1:
				l.Enter(n)
				inFlight += n
			case 2:
				n = min(n, inFlight)
				l.Local(n)
				inFlight -= n
			case 3:
				n = min(n, inFlight)
				s.Appended, s.Held = s.Appended+int64(n), s.Held+int64(n)
				l.Spooled(n)
				inFlight -= n
			case 4:
				n = min(n, inFlight)
				l.Dropped("refused", n)
				inFlight -= n
			case 5:
				m := min(int64(n), s.Held)
				s.Held, s.Done = s.Held-m, s.Done+m
			case 6:
				m := min(int64(n), s.Held)
				s.Held -= m
				s.Dropped["expired"] += m
			case 7: // what waited in the spool was done here
				m := min(int64(n), s.Held)
				s.Held -= m
				s.Dropped[spool.ReasonHere] += m
			}
		}
		c := l.Counts(func() SpoolCounts { return s })
		require.Zero(t, c.Balance)
		require.EqualValues(t, inFlight, c.InFlight)
		require.NotContains(t, c.Dropped, spool.ReasonHere)

		s.Held++
		require.EqualValues(t, -1, l.Counts(func() SpoolCounts { return s }).Balance, "a record too many must show")
	})
}

// The spool counts a commit a moment before the ledger does. On a busy machine the moment may be long; the counts read in between still balance. A
// task that was never in flight cannot be such a commit.
func TestLedgerBalancesBeforeItHears(t *testing.T) {
	l := New(Saved{}, SpoolCounts{Appended: 3, Held: 3})
	l.Enter(5)
	ask := func(appended int64) status.Counts {
		return l.Counts(func() SpoolCounts { return SpoolCounts{Appended: appended, Held: appended} })
	}
	require.Equal(t, status.Counts{Accepted: 7, Spooled: 7, InFlight: 1, Dropped: map[string]int64{}}, ask(7))
	require.EqualValues(t, -2, ask(10).Balance, "two more than were in flight")
	l.Spooled(4)
	require.Equal(t, status.Counts{Accepted: 7, Spooled: 7, InFlight: 1, Dropped: map[string]int64{}}, ask(7))
}

// A parked task done locally counts as local, not as a drop; also after a start, which finds it only in the spool's counts.
func TestDoneHereAfterAllIsLocal(t *testing.T) {
	s := SpoolCounts{Appended: 5, Done: 1, Held: 2, Dropped: map[string]int64{spool.ReasonHere: 2}}
	c := New(Saved{Local: 3}, s).Counts(func() SpoolCounts { return s })
	require.Equal(t, status.Counts{Accepted: 8, Local: 5, Receipted: 1, Spooled: 2, Dropped: map[string]int64{}}, c)
}

// A start after a crash opens a balanced account, whatever was saved last.
func TestLedgerReopens(t *testing.T) {
	s := SpoolCounts{Appended: 10, Done: 4, Held: 5, Dropped: map[string]int64{"expired": 1}}
	l := New(Saved{Local: 7, Dropped: map[string]int64{"failed": 2}}, s)
	c := l.Counts(func() SpoolCounts { return s })
	require.Equal(t, status.Counts{
		Accepted: 19, Local: 7, Receipted: 4, Spooled: 5,
		Dropped: map[string]int64{"expired": 1, "failed": 2},
	}, c)
	require.Equal(t, Saved{Local: 7, Dropped: map[string]int64{"failed": 2}}, l.Saved())
}

// A spool's statistics open a balanced account, and each movement changes what it should.
func TestTheAccountOfASpool(t *testing.T) {
	st := spool.Stats{Appended: 9, Done: 3, Held: 4, Dropped: map[string]uint64{"expired": 2}}
	s := Of(st)
	require.Equal(t, SpoolCounts{Appended: 9, Done: 3, Held: 4, Dropped: map[string]int64{"expired": 2}}, s)
	l := New(Saved{}, s)
	l.Enter(5)
	l.Leave(2)
	require.EqualValues(t, 3, l.InFlight())
	l.Local(1)
	l.Dropped("refused", 1)
	require.Equal(t, status.Counts{
		Accepted: 11, Local: 1, Receipted: 3, Spooled: 4, InFlight: 1, Dropped: map[string]int64{"expired": 2, "refused": 1},
	}, l.Counts(func() SpoolCounts { return s }))

	dir := t.TempDir()
	require.NoError(t, l.Save(dir, status.Counts{}))
	saved, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, Saved{Local: 1, Dropped: map[string]int64{"refused": 1}}, saved)
}

// An unbalanced snapshot is taken again, but not forever.
func TestAnAccountThatDoesNotAddUpIsTakenAgain(t *testing.T) {
	l, asked := New(Saved{}, SpoolCounts{Appended: 2, Held: 2}), 0
	counts := func(good int) func() SpoolCounts {
		asked = 0
		return func() SpoolCounts {
			if asked++; asked == good {
				return SpoolCounts{Appended: 2, Held: 2}
			}
			return SpoolCounts{Appended: 2, Held: 1}
		}
	}
	require.Zero(t, l.Counts(counts(3)).Balance)
	require.Equal(t, 3, asked)
	require.EqualValues(t, 1, l.Counts(counts(1000)).Balance)
	require.Equal(t, 20, asked)
}

// Drops by class exclude tasks processed locally after all.
func TestDroppedByClass(t *testing.T) {
	require.Equal(t, map[string]map[string]uint64{"a": {"full": 2}}, DroppedByClass(map[string]spool.ClassStats{
		"a": {Dropped: map[string]uint64{"full": 2, spool.ReasonHere: 1}},
		"b": {Dropped: map[string]uint64{spool.ReasonHere: 1}},
		"c": {},
	}))
}
