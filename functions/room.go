package functions

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"app-offload/functions/decide"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// room holds the parked tasks. The deciding goroutine reserves a place for a task, the committer adds the task once it is durable, and
// the goroutine of Pipeline.attend, the only owner of waiting, binds it. The methods are safe for concurrent use and do not block.
type room struct {
	wake chan struct{}
	link func() host.Link // as measured at this very moment
	most int64            // bytes of the spool that may be held for the room

	mu   sync.Mutex
	came []*job // durable, and not seen by the owner yet
	shut bool
	held int64 // bytes of the spool that are held for the room or about to be

	tasks, bytes      atomic.Int64 // that have a place, and the size of their data; changed under mu
	records, recorded atomic.Int64 // that the spool holds for the room, until they are released or done, and their bytes there

	// The owner's.
	waiting policy.Waiting
	rules   *decide.Rules // under which they wait
	state   host.State
	linked  bool           // there was a link at the last scan
	sent    bool           // a task was bound for the cloud, and the scheduler has not been woken yet
	later   later          // its tasks have a place in the room
	moving  sync.WaitGroup // tasks bound to the node that wait for room in its queue
}

func newRoom() *room {
	return &room{wake: make(chan struct{}, 1), link: func() host.Link { return host.Link{} }, most: math.MaxInt64}
}

// roomShare is the share (1/n) of the spool that may be held for parked tasks. Held records cannot be dropped, so the rest of the
// spool is kept for records that can.
const roomShare = 4

// recordSize is about what a task's record takes in the spool.
func recordSize(data int) int64 { return int64(data) + recordOverhead + recordHeader }

// take reserves a place for a task of so many bytes, here and in the spool, and reports false where there is no room.
func (m *room) take(bounds policy.Room, size int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	full := m.tasks.Load() >= int64(bounds.Tasks) || m.bytes.Load()+int64(size) > bounds.Bytes || m.held+recordSize(size) > m.most
	if m.shut || full {
		return false
	}
	m.held += recordSize(size)
	m.tasks.Add(1)
	m.bytes.Add(int64(size))
	return true
}

// leave gives a place back, but for that in the spool.
func (m *room) leave(size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks.Add(-1)
	m.bytes.Add(-int64(size))
}

// free gives a place in the spool back.
func (m *room) free(size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= recordSize(size)
}

// enter brings a task that is durable, and reports false after the room was shut. Job and task are copied, as what they point to
// would keep all that came with them in memory. The task's data are in the record already.
func (m *room) enter(j *job, r *spool.Record) bool {
	own := *j
	own.Task, own.event, own.seq, own.stored = j.Task.Own(r.Payload), nil, r.Seq, int64(len(r.Payload))+recordHeader
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return false
	}
	m.records.Add(1)
	m.recorded.Add(own.stored)
	m.came = append(m.came, &own)
	m.nudge()
	return true
}

// recordHeader is roughly what the spool adds to a payload, bytes.
const recordHeader = 64

// gone books that the spool does not hold the task's record for the room any more.
func (m *room) gone(j *job) {
	m.free(j.Task.Size())
	m.records.Add(-1)
	m.recorded.Add(-j.stored)
}

// nudge wakes the owner because node or link may be free. It does nothing while no task is parked.
func (m *room) nudge() {
	if m.tasks.Load() == 0 {
		return
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// arrivals takes over what has come since the last time. The last call shuts the room.
func (m *room) arrivals(last bool) []*job {
	m.mu.Lock()
	defer m.mu.Unlock()
	came := m.came
	m.came, m.shut = nil, m.shut || last
	return came
}

// open starts the owner and returns what stops it: then whatever waits has been let go.
func (m *room) open(attend func(context.Context)) (shut func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		attend(ctx)
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

func (m *room) status() status.UndecidedStatus {
	return status.UndecidedStatus{Tasks: m.tasks.Load(), Bytes: m.bytes.Load()}
}

// standing is the spool as the next task finds it: without the parked tasks, which are not ahead of it on the link.
type standing struct {
	*spool.Spool
	room *room
}

// Fill is that of the spool without the records held for the room. They fill their share of it all the same.
func (s standing) Fill() (records, bytes int64, share float64) {
	records, bytes, share = s.Spool.Fill()
	return max(records-s.room.records.Load(), 0), max(bytes-s.room.recorded.Load(), 0), share
}
