package wait

import (
	"context"
	"sync"
	"sync/atomic"

	"app-offload/functions/background"
	"app-offload/functions/decide"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// Spool holds the records of parked tasks. *spool.Spool implements it.
type Spool interface {
	Release(sequences []uint64)
	Drop(sequences []uint64, reason string)
}

// Local processes tasks. *infer.Room implements it.
type Local interface {
	Full() bool                            // a queue of the operators is full
	ModelsFull() bool                      // the queue of the models is full
	Workers() int                          // models that run at the same time
	Operators() int                        // goroutines that run operators
	InOrder(t *task.Task) bool             // its operators need the order of its device
	Seconds(c *task.Class) (float64, bool) // duration of a run of the class's model, false without a model
	Offer(item local.Item, done func(i int, err error)) bool
	Process(ctx context.Context, items []local.Item, done func(i int, err error))
}

// Feedback records the decisions. *feedback.Feedback implements it.
type Feedback interface {
	Stands(r *decide.Rules, c *decide.Case, s *host.State)
	Bound(r *decide.Rules, c *decide.Case, s *host.State)
	Stays(cases []*decide.Case, s *host.State)
	Amend(c *decide.Case)
	Done(c *decide.Case)
	Failed(id uint64)
	Shed(c *decide.Case)
}

// Order keeps the tasks of a device and class in order, parked or not. It is safe for concurrent use, and does not block.
type Order interface {
	// Ahead reports about the tasks before a new one: whether one is parked, whether one waits in memory or was refused, and whether one is processed
	// locally, behind which a task for the cloud waits.
	Ahead(t *task.Task) (parked, waits, here bool)
	// Unpark reports that a parked task was dispatched.
	Unpark(t *task.Task)
}

// Deps are the dependencies of a Pool. None of the functions may block.
type Deps struct {
	Rules    func() *decide.Rules // in force now
	Look     func(s *host.State)  // reads the current node state
	Spool    Spool
	Local    Local
	Feedback Feedback
	Order    Order
	Most     int64  // bytes of the spool that parked tasks may hold
	Hasten   func() // makes released records due without waiting for more of them

	// Sent amends the decision of a case that failed locally and is sent now. Dropped logs that a case is dropped and returns the reason.
	Sent    func(c *decide.Case, err error)
	Dropped func(c *decide.Case, err error) (reason string)

	// Hopeless reports whether a parked task must be dropped because no path can finish it in time.
	Hopeless func(m *score.Model, t *task.Task, s *host.State) bool
	Shed     func(c *decide.Case) // counts the effect of overload on a case, if any
}

// Pool holds the parked tasks. The deciding goroutine reserves a place for a task, the committer adds the task once it is durable, and the Pool's own
// goroutine, the only owner of waiting, binds it. The methods are safe for concurrent use and do not block.
type Pool struct {
	Deps
	wake chan struct{}

	mu      sync.Mutex
	arrived []*parked // durable, not yet seen by the owner
	shut    bool
	held    int64       // bytes of the spool held for the pool or reserved
	line    policy.Line // the tasks with a place

	tasks, bytes      atomic.Int64 // with a place, and the size of their data; changed under mu
	records, recorded atomic.Int64 // held by the spool for the pool, until released or done, and their bytes there

	// Owned by the pool's goroutine.
	waiting    policy.Waiting
	rules      *decide.Rules // under which the tasks wait
	state      host.State
	linked     bool // the link was up at the last scan
	queued     queues
	expires    bool             // a class allows drops, so hopeless tasks may be dropped
	expired    int64            // time of the last search for hopeless tasks
	sent       bool             // a task was bound for the cloud, and the scheduler not yet woken
	background background.Queue // its tasks have a place in the pool
	heavy      background.Queue // likewise for tasks with a model, which hold up no others
	moving     sync.WaitGroup   // tasks bound to the node that wait for room in its queue
}

// parked is one parked task.
type parked struct {
	decide.Case
	seq    uint64         // of its record
	fixed  bool           // it waits only for earlier tasks, not for node or link; it is decided after them
	stored int64          // size of the record in bytes, about
	place  policy.Portion // its part of the line
}

// New returns an empty pool.
func New(d Deps) *Pool { return &Pool{Deps: d, wake: make(chan struct{}, 1)} }

// recordSize estimates the size of a task's record in the spool.
func recordSize(data int) int64 { return int64(data) + taskOverhead + recordHeader }

// taskOverhead estimates what a task's encoding adds to its data, in bytes.
const taskOverhead = 320

// take reserves a place for a case, in the pool and in the spool, and returns false if there is no room.
func (m *Pool) take(bounds policy.Room, c *decide.Case) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := c.Task.Size()
	full := m.tasks.Load() >= int64(bounds.Tasks) || m.bytes.Load()+int64(size) > bounds.Bytes || m.held+recordSize(size) > m.Most
	if m.shut || full {
		return false
	}
	m.lineOf(bounds).Add(m.line.Portion(c.Task, c.Estimate.Cycles))
	m.held += recordSize(size)
	m.tasks.Add(1)
	m.bytes.Add(int64(size))
	return true
}

// place returns the part of the line of a case with a place.
func (m *Pool) place(c *decide.Case) policy.Portion {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line.Portion(c.Task, c.Estimate.Cycles)
}

// leave releases a place, except its part of the spool: its task was dispatched, and later tasks may follow.
func (m *Pool) leave(t *task.Task, place policy.Portion) {
	m.mu.Lock()
	m.tasks.Add(-1)
	m.bytes.Add(-int64(t.Size()))
	m.line.Remove(place)
	m.mu.Unlock()
	m.Order.Unpark(t)
}

// free releases a place in the spool.
func (m *Pool) free(size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= recordSize(size)
}

// Enter adds a case whose task is durable as a record. After the pool was shut it releases the record instead, and the task goes to the cloud. Case
// and task are copied, since their originals would keep the whole commit in memory. The record contains the task's data. The committer calls Enter;
// it does not block.
func (m *Pool) Enter(rules *decide.Rules, c *decide.Case, s *host.State, r *spool.Record) {
	own := parked{Case: *c, seq: r.Seq, stored: int64(len(r.Payload)) + recordHeader, fixed: !rules.MayWait(c)}
	own.place = m.place(c)
	if m.enter(&own, r.Payload) {
		return
	}
	own.Decision = atStop()
	m.Feedback.Stands(rules, &own.Case, s)
	m.Spool.Release([]uint64{r.Seq})
	m.Leave(&own.Case)
}

func (m *Pool) enter(own *parked, payload []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return false
	}
	own.Task = own.Task.Own(payload)
	m.records.Add(1)
	m.recorded.Add(own.stored)
	m.arrived = append(m.arrived, own)
	m.Nudge()
	return true
}

// recordHeader estimates what the spool adds to a payload, in bytes.
const recordHeader = 64

// gone records that the spool no longer holds the task's record for the pool.
func (m *Pool) gone(j *parked) {
	m.free(j.Task.Size())
	m.records.Add(-1)
	m.recorded.Add(-j.stored)
}

// Nudge wakes the owner because node or link may be free. It does nothing while no task is parked.
func (m *Pool) Nudge() {
	if m.tasks.Load() == 0 {
		return
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// arrivals returns the tasks added since the last call. With last it shuts the pool.
func (m *Pool) arrivals(last bool) []*parked {
	m.mu.Lock()
	defer m.mu.Unlock()
	arrived := m.arrived
	m.arrived, m.shut = nil, last
	return arrived
}

// Open starts the owner and returns the function that stops it; by then all parked tasks have been dispatched, or stay held.
func (m *Pool) Open() (shut func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.attend(ctx)
	}()
	return func(patience context.Context) error {
		cancel()
		select {
		case <-ended:
			return nil
		case <-patience.Done():
			return patience.Err()
		}
	}
}

// Reserved returns the bytes of the spool that are held for parked tasks or reserved.
func (m *Pool) Reserved() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// Held returns the number of records that the spool holds for parked tasks, and their bytes.
func (m *Pool) Held() (records, bytes int64) { return m.records.Load(), m.recorded.Load() }

// Load adds the parked tasks to a state.
func (m *Pool) Load(s *host.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.line.Total()
	s.ParkedCycles, s.ParkedBytes = all.Cycles, all.Bytes
}

// Line returns the tasks with a place, in a room.
func (m *Pool) Line(bounds policy.Room) policy.Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lineOf(bounds).Clone()
}

// lineOf returns the line. An empty one adopts the bounds. The caller holds the lock.
func (m *Pool) lineOf(bounds policy.Room) *policy.Line {
	if m.tasks.Load() == 0 {
		m.line = bounds.Line()
	}
	return &m.line
}

// Status returns the number of tasks with a place, and the size of their data.
func (m *Pool) Status() status.UndecidedStatus {
	return status.UndecidedStatus{Tasks: m.tasks.Load(), Bytes: m.bytes.Load()}
}
