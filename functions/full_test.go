package functions

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// tmpfs mounts a disk of that size, which requires root.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 || exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).Run() != nil {
		t.Skip("mounting a tmpfs takes root")
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	return dir
}

// large is an event of the given size that no local operator accepts.
func large(device string, n, size int) *task.Event {
	ev := event(device, n)
	ev.Raw = append(ev.Raw[:len(ev.Raw):len(ev.Raw)], make([]byte, size)...)
	r := &ev.Readings[0]
	r.Type, r.Value = task.String, ev.Raw[len(ev.Raw)-size:]
	r.Start, r.End = len(ev.Raw)-size, len(ev.Raw)
	for i := range r.Value {
		r.Value[i] = 'x'
	}
	return ev
}

// On a disk that is full before the quota is reached, the account balances at every look and after restarts: a task that the spool refused was never
// accepted, however often its owner retries.
func TestTheAccountBalancesOnAFullDisk(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.Directory = tmpfs(t, "24m")
	cfg.Spool.QuotaMiB = 512
	s := open(t, cfg, &bin{})
	look := func() status.Counts {
		t.Helper()
		c := s.Counts()
		require.Zero(t, c.Balance, "%+v", c)
		require.Empty(t, c.Dropped, "nothing is lost: the owners of what was refused have it")
		return c
	}
	left := make([]*task.Event, 60)
	for n := range left {
		left[n] = large("d", n, 400_000)
	}
	stored := 0
	for range 4 {
		refused := left[:0:0]
		for len(left) > 0 {
			slice := left[:min(6, len(left))]
			left = left[len(slice):]
			var mu sync.Mutex
			var done sync.WaitGroup
			done.Add(len(slice))
			s.Submit(slice, func(i int, err error) {
				defer done.Done()
				if mu.Lock(); err != nil {
					refused = append(refused, slice[i])
				} else {
					stored++
				}
				mu.Unlock()
			})
			look()
			done.Wait()
			look()
		}
		left = refused
	}
	c := look()
	require.NotEmpty(t, left, "the disk is full")
	require.Positive(t, stored)
	require.EqualValues(t, stored, c.Accepted)
	require.EqualValues(t, stored, c.Spooled)
	require.Zero(t, c.InFlight)
	for range 3 {
		require.NoError(t, s.Stop())
		s = open(t, cfg, &bin{})
		require.EqualValues(t, stored, look().Spooled)
	}
}

// In a full spool a split event is stored as a whole or not at all: the cloud would wait for the missing part.
func TestAFullSpoolTakesAllOfAnEventOrNothing(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB, cfg.Writable.Policy.BacklogLimit = 16, 1
	class := cfg.Writable.Classes["default"]
	class.ChunkSize, class.OnFull = 2000, spool.Refuse
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	put := func(ev *task.Event) error {
		result := make(chan error, 1)
		s.Submit([]*task.Event{ev}, func(_ int, err error) { result <- err })
		return <-result
	}
	n := 0
	for st := s.spool.Stats(); st.Limit-st.HeldBytes > 250_000; st = s.spool.Stats() { // room for some of the 320 KB
		require.NoError(t, put(large("filler", n, 100_000)))
		n++
	}
	ev := event("cut", n)
	value := "[1.5" + strings.Repeat(",1.5", 40*2000-1) + "]"
	ev.Raw = bytes.Replace(ev.Raw, []byte(`"value":"1.5"`), []byte(`"value":"`+value+`"`), 1)
	at := bytes.Index(ev.Raw, []byte(value))
	r := &ev.Readings[0]
	r.Type, r.Value, r.Start, r.End = task.Float64Array, ev.Raw[at:at+len(value)], at, at+len(value)
	before := s.Counts()
	require.ErrorIs(t, put(ev), ErrRefused)
	require.NoError(t, s.drain(t.Context())) // what else of it was offered is committed
	require.Equal(t, before.Spooled, s.Counts().Spooled)
	require.Zero(t, s.Counts().Balance)
	small := event("small", n+1)
	require.NoError(t, put(small), "there is room for some of it")

	answers := make([]error, 2)
	var done sync.WaitGroup
	done.Add(2)
	s.Submit([]*task.Event{ev, event("small", n+2)}, func(i int, err error) { answers[i] = err; done.Done() })
	done.Wait()
	require.ErrorIs(t, answers[0], ErrRefused)
	require.NoError(t, answers[1], "its neighbour in the slice needs too much room")
}

// Records are dropped for a new one only if that makes room for it: on a full disk, in a full spool, and for several at once.
func TestNothingIsDroppedInVain(t *testing.T) {
	for _, how := range []string{spool.DropOldest, spool.DropLowestScore} {
		t.Run(how, func(t *testing.T) {
			cfg := testConfig(t, nil, "cloud")
			cfg.Spool.Directory = tmpfs(t, "24m")
			cfg.Spool.QuotaMiB, cfg.Writable.Policy.BacklogLimit = 512, 1
			class := cfg.Writable.Classes["default"]
			class.OnFull = how
			cfg.Writable.Classes["default"] = class
			s := open(t, cfg, &bin{})
			stored, dropped, newcomers := 0, int64(0), int64(0)
			for n := range 120 {
				result := make(chan error, 1)
				s.Submit([]*task.Event{large("d", n, 100_000+n*7919%400_000)}, func(_ int, err error) { result <- err })
				require.NoError(t, <-result)
				c := s.Counts()
				require.Zero(t, c.Balance, "%+v", c)
				if now := s.ledger.Saved().Dropped[spool.ReasonFull]; now > newcomers {
					newcomers = now
					require.Equal(t, dropped, c.Dropped[spool.ReasonFull]-newcomers, "event %d found no room, and others went for it", n)
				} else {
					stored++
					dropped = c.Dropped[spool.ReasonFull] - newcomers
				}
			}
			if how == spool.DropOldest {
				require.Greater(t, stored, 100, "the newest are the ones to keep")
			}
		})
	}
}

// A refused task does not count as decided: an event that its owner retries counts once, when it is accepted, and so does its regret.
func TestARefusedEventThatComesAgainIsOneDecision(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB, cfg.Writable.Policy.BacklogLimit = 16, 1
	class := cfg.Writable.Classes["default"]
	class.OnFull = spool.Refuse
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	submit := func(n int) error {
		result := make(chan error, 1)
		s.Submit([]*task.Event{large("d", n, 200_000)}, func(_ int, err error) { result <- err })
		return <-result
	}
	decided := func() (n uint64) {
		for _, d := range s.Status().Policies.Decided {
			n += d.Count
		}
		return n
	}
	stored := 0
	for submit(stored) == nil {
		stored++
	}
	require.EqualValues(t, stored, decided())
	regret := s.Status().Policies.Regret
	for range 20 {
		require.ErrorIs(t, submit(stored), ErrRefused)
	}
	require.EqualValues(t, stored, decided())
	require.InDelta(t, regret, s.Status().Policies.Regret, 1e-6)
	require.Zero(t, s.Counts().Balance)
	taken := s.spool.Take(class.Priority, "", spool.Backlog, 1, 1, nil)
	if len(taken) == 0 {
		taken = s.spool.Take(class.Priority, "", spool.Live, 1, 1, nil)
	}
	s.spool.Done([]uint64{taken[0].Seq})
	require.NoError(t, submit(stored))
	require.EqualValues(t, stored+1, decided())
}
