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

// Spool holds the records of parked tasks. *spool.Spool is one.
type Spool interface {
	Release(sequences []uint64)
	Drop(sequences []uint64, reason string)
}

// Local processes tasks. *infer.Room is one.
type Local interface {
	Full() bool                            // a queue of the operators takes no more
	ModelsFull() bool                      // the queue of the models takes no more
	Workers() int                          // models that compute at the same time
	Operators() int                        // goroutines that run operators
	InOrder(t *task.Task) bool             // its operators need the order of its device
	Seconds(c *task.Class) (float64, bool) // that a run of the class's model takes, false without a model
	Offer(item local.Item, done func(i int, err error)) bool
	Process(ctx context.Context, items []local.Item, done func(i int, err error))
}

// Feedback follows the decisions. *feedback.Feedback is one.
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
	// Ahead says of the tasks before a new one whether one is parked, whether one waits in memory or was refused, and whether one is processed
	// locally, behind which one for the cloud waits.
	Ahead(t *task.Task) (parked, waits, here bool)
	// Unpark says that a parked task is on its way.
	Unpark(t *task.Task)
}

// Deps are what a Pool works with. None of the functions may block.
type Deps struct {
	Rules    func() *decide.Rules // in force at this moment
	Look     func(s *host.State)  // reads the node's state of this moment
	Spool    Spool
	Local    Local
	Feedback Feedback
	Order    Order
	Most     int64  // bytes of the spool that may be held for parked tasks
	Hasten   func() // lets records that were released leave without waiting for more of them

	// Sent amends the decision of a case that failed locally and is sent now. Dropped logs that a case is given up and returns the reason.
	Sent    func(c *decide.Case, err error)
	Dropped func(c *decide.Case, err error) (reason string)

	// Hopeless reports whether a parked task is to be dropped, because no path can finish it in time any more.
	Hopeless func(m *score.Model, t *task.Task, s *host.State) bool
	Shed     func(c *decide.Case) // counts what overload has made of a case, if anything
}

// Pool holds the parked tasks. The deciding goroutine reserves a place for a task, the committer adds the task once it is durable, and
// the Pool's own goroutine, the only owner of waiting, binds it. The methods are safe for concurrent use and do not block.
type Pool struct {
	Deps
	wake chan struct{}

	mu   sync.Mutex
	came []*parked // durable, and not seen by the owner yet
	shut bool
	held int64       // bytes of the spool that are held for the pool or about to be
	line policy.Line // the tasks that have a place

	tasks, bytes      atomic.Int64 // that have a place, and the size of their data; changed under mu
	records, recorded atomic.Int64 // that the spool holds for the pool, until they are released or done, and their bytes there

	// The owner's.
	waiting    policy.Waiting
	rules      *decide.Rules // under which they wait
	state      host.State
	linked     bool // there was a link at the last scan
	queued     queues
	expires    bool             // a class gives way, so that its tasks may be dropped once they are hopeless
	expired    int64            // stamp of the last look for tasks that are hopeless
	sent       bool             // a task was bound for the cloud, and the scheduler has not been woken yet
	background background.Queue // its tasks have a place in the pool
	heavy      background.Queue // likewise those for models, behind which no other waits
	moving     sync.WaitGroup   // tasks bound to the node that wait for room in its queue
}

// parked is one task that waits.
type parked struct {
	decide.Case
	seq    uint64         // of its record
	fixed  bool           // it only waits for those before it: where it goes is decided then, and it does not wait for node or link
	stored int64          // about the bytes of that
	place  policy.Portion // of the line
}

// New makes an empty pool.
func New(d Deps) *Pool { return &Pool{Deps: d, wake: make(chan struct{}, 1)} }

// recordSize is about what a task's record takes in the spool.
func recordSize(data int) int64 { return int64(data) + taskOverhead + recordHeader }

// taskOverhead is roughly what a task's encoding adds to its data, bytes.
const taskOverhead = 320

// take reserves a place for a case, here and in the spool, and reports false where there is no room.
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

// place is what a case that has one adds to the line.
func (m *Pool) place(c *decide.Case) policy.Portion {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line.Portion(c.Task, c.Estimate.Cycles)
}

// leave gives a place back, but for that in the spool: its task is on its way, and those after it may follow.
func (m *Pool) leave(t *task.Task, place policy.Portion) {
	m.mu.Lock()
	m.tasks.Add(-1)
	m.bytes.Add(-int64(t.Size()))
	m.line.Remove(place)
	m.mu.Unlock()
	m.Order.Unpark(t)
}

// free gives a place in the spool back.
func (m *Pool) free(size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= recordSize(size)
}

// Enter brings a case whose task is durable as a record, and reports false after the pool was shut: then the record has been released, and
// the task goes to the cloud. Case and task are copied, as what they point to would keep all that came with them in memory. The task's
// data are in the record already. It is for the committer, and does not block.
func (m *Pool) Enter(rules *decide.Rules, c *decide.Case, s *host.State, r *spool.Record) {
	own := parked{Case: *c, seq: r.Seq, stored: int64(len(r.Payload)) + recordHeader, fixed: !rules.MayWait(c)}
	own.place = m.place(c)
	if m.enter(&own, r.Payload) {
		return
	}
	own.Decision = letGo()
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
	m.came = append(m.came, own)
	m.Nudge()
	return true
}

// recordHeader is roughly what the spool adds to a payload, bytes.
const recordHeader = 64

// gone books that the spool does not hold the task's record for the room any more.
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

// arrivals takes over what has come since the last time. The last call shuts the room.
func (m *Pool) arrivals(last bool) []*parked {
	m.mu.Lock()
	defer m.mu.Unlock()
	came := m.came
	m.came, m.shut = nil, last
	return came
}

// Open starts the owner and returns what stops it: then whatever waits has been let go.
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

// Reserved is how many bytes of the spool are held for parked tasks, or about to be.
func (m *Pool) Reserved() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// Held is how many records the spool holds for parked tasks, and their bytes there.
func (m *Pool) Held() (records, bytes int64) { return m.records.Load(), m.recorded.Load() }

// Load adds the parked tasks to a state.
func (m *Pool) Load(s *host.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.line.Total()
	s.ParkedCycles, s.ParkedBytes = all.Cycles, all.Bytes
}

// Line is the tasks that have a place, in a room.
func (m *Pool) Line(bounds policy.Room) policy.Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lineOf(bounds).Clone()
}

// lineOf is the line. An empty one takes the bounds over. The lock is held.
func (m *Pool) lineOf(bounds policy.Room) *policy.Line {
	if m.tasks.Load() == 0 {
		m.line = bounds.Line()
	}
	return &m.line
}

// Status is how many tasks have a place, and the size of their data.
func (m *Pool) Status() status.UndecidedStatus {
	return status.UndecidedStatus{Tasks: m.tasks.Load(), Bytes: m.bytes.Load()}
}
