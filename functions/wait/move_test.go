package wait

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// full is a room with full queues: the operators' has room soon, the models' does not.
type full struct {
	Local
	release chan struct{}
	ran     chan string
}

func (f full) Offer(local.Item, func(int, error)) bool { return false }
func (f full) Process(_ context.Context, items []local.Item, _ func(int, error)) {
	if items[0].Task.Class.Model != "" {
		<-f.release
	}
	f.ran <- items[0].Task.Device
}

// noOrder keeps none.
type noOrder struct{}

func (noOrder) Ahead(*task.Task) (parked, waits, here bool) { return false, false, false }
func (noOrder) Unpark(*task.Task)                           {}

// A task for the operators does not wait behind tasks that wait for a model.
func TestATaskForOperatorsWaitsBehindNoModel(t *testing.T) {
	room := full{release: make(chan struct{}), ran: make(chan string)}
	pool := New(Deps{Local: room, Order: noOrder{}})
	move := func(device, model string) {
		one := &task.Task{Device: device, Class: &task.Class{Name: "c", Model: model}}
		pool.move(t.Context(), &parked{Case: decide.Case{Task: one}})
	}
	move("camera", "defects")
	move("pump", "")
	if first := <-room.ran; first != "pump" {
		t.Errorf("the first is of the %s", first)
	}
	close(room.release)
	<-room.ran
	pool.moving.Wait()
}

// A reduced task waits behind the tasks of its own class, which it would overtake in the line of its reduced form.
func TestAReducedTaskWaitsInTheLineOfItsOwnClass(t *testing.T) {
	room := full{release: make(chan struct{}), ran: make(chan string, 3)}
	pool := New(Deps{Local: room, Order: noOrder{}})
	own := &task.Class{Name: "frames", Model: "defects", Reduced: &task.Class{Name: "sizes"}}
	move := func(one *task.Task) { pool.move(t.Context(), &parked{Case: decide.Case{Task: one}}) }
	move(&task.Task{Device: "first", Class: own})
	second := &task.Task{Device: "second", Class: own}
	second.Reduce()
	move(second)
	light := &task.Task{Device: "third", Class: &task.Class{Name: "c"}}
	move(light)
	if ran := <-room.ran; ran != "third" {
		t.Errorf("%s ran before the first of its class", ran)
	}
	close(room.release)
	pool.moving.Wait()
}

// The stop of the pool ends after the tasks that wait for room at the local workers.
func TestAStopWaitsForWhatIsMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, false)
		room := full{release: make(chan struct{}), ran: make(chan string, 1)}
		w.Pool.Local, w.Pool.Order = room, noOrder{}
		w.Pool.move(t.Context(), &parked{Case: decide.Case{Task: &task.Task{Device: "camera", Class: &task.Class{Name: "c", Model: "defects"}}}})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.attend(ctx)
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("a task is still moving")
		default:
		}
		close(room.release)
		<-ended
	})
}

// The more tasks are parked, the longer the interval between searches for hopeless ones.
func TestHopelessTasksAreLookedForNowAndThen(t *testing.T) {
	w := newWorld(t, 1, false)
	w.Pool.rules, w.expires = w.rules, true
	looks := 0
	w.Pool.Hopeless = func(*score.Model, *task.Task, *host.State) bool { looks++; return false }
	for n := range 8 {
		j := &parked{Case: decide.Case{Task: &task.Task{EventID: string(rune('a' + n)), Of: 1, Class: w.rules.Class("default")}}}
		require.True(t, w.waiting.Add(w.asHeld(j), w.rules.Binder().Room()))
	}
	each := int64(attendEvery + 8*expireCost)
	for _, after := range []int64{each, each - 1, 1, each} {
		w.Pool.state.Time += after
		w.expire()
	}
	require.Equal(t, 3*8, looks, "at once, then after a pause, then after another")
}
