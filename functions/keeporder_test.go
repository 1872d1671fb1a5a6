package functions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/infer"
	"app-offload/functions/task"
)

// A task for the cloud that is queued behind local work has no record yet, so a later task of its run must not be parked and sent first.
func TestNoTaskIsParkedAfterOneThatIsHeldBehindLocalWork(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferOrder = true
	n := openNarrow(t, cfg)
	base := time.Now().UnixNano()
	n.put(stamped("a", base, 0))
	require.Equal(t, 1, n.reasons()[decision.CheaperLocal])
	run := []*task.Event{stamped("a", base, 1), stamped("a", base, 2), stamped("a", base, 3)}
	n.Submit(run, func(_ int, err error) {
		if err != nil {
			t.Errorf("an event is refused: %v", err)
		}
	})
	require.Positive(t, n.reasons()[decision.CheaperCloud], "the first of the run is for the cloud")
	time.Sleep(100 * time.Millisecond) // in which a parked one would be bound to the link, which is idle
	for range 1 + len(run) {
		n.bus.tokens <- nil
	}
	n.eventually("all are on their ways", func() bool { return n.Counts().InFlight == 0 && n.undecided() == 0 })
	inSpool(t, n.Service).require(t, "in the spool")
}

// If a room becomes too small, a task that may be processed in any order is dispatched, and no earlier one is lost.
func TestASmallerRoomLosesNoneOfThoseThatKeepTheirOrder(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferOrder, cfg.Writable.Policy.DeferLongest = true, "2s"
	class := cfg.Writable.Classes["default"]
	class.Operators = "deadband band=0.1"
	cfg.Writable.Classes["default"] = class
	n := openNarrow(t, cfg)
	n.parker.(parking).Pool.Local = unordered{n.local}
	n.submit(2) // node and link are busy
	base := time.Now().UnixNano()
	for i := range 10 {
		n.Submit([]*task.Event{stamped("a", base, i)}, func(_ int, err error) {
			if err != nil {
				t.Errorf("an event is refused: %v", err)
			}
		})
	}
	n.waiting(10)
	w := n.Config().Writable
	w.Policy.DeferTasks = 1
	require.NoError(t, n.Reload(w))
	for range 20 {
		n.bus.tokens <- nil
	}
	n.eventually("no task is parked", func() bool { n.sent(); return n.undecided() == 0 && n.Counts().InFlight == 0 })
	require.Zero(t, n.held())
}

// unordered is local processing without operators that depend on order.
type unordered struct{ *infer.Room }

func (unordered) InOrder(*task.Task) bool { return false }

// A task may be processed locally before an earlier parked one only if its operators need no order.
func TestWhoMayPassAParkedTask(t *testing.T) {
	for _, c := range []struct {
		needs func(*task.Task) bool // nil where no order is kept, as then none waits for another
		want  bool
	}{{nil, false}, {func(*task.Task) bool { return true }, false}, {func(*task.Task) bool { return false }, true}} {
		j := &job{event: &countdown{run: &run{inOrder: c.needs}}}
		require.Equal(t, c.want, j.Free())
	}
}
