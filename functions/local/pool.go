package local

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"
)

// PoolConfig bounds the pool for models.
type PoolConfig struct {
	// Workers is the number of models that compute concurrently, each on one core. 0 leaves one core to the operators if there are several.
	Workers int `within:"0 256"`
	// QueueTasks is the maximum number of tasks that wait for a model. While the queue is full, tasks go to the cloud; tasks that must stay block their sender.
	QueueTasks int `within:"1 100000"`
	// Nice lowers the priority of the models' threads, 0 to 19, as nice(1) does, in favour of operators and exporter. 0 keeps the priority of the
	// process. It needs Linux.
	Nice int `within:"0 19"`
}

// DefaultPoolConfig suits a gateway with few cores.
func DefaultPoolConfig() PoolConfig { return PoolConfig{QueueTasks: 64, Nice: 5} }

// Sized returns the number of workers.
func (c PoolConfig) Sized() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return max(runtime.GOMAXPROCS(0)-1, 1)
}

// Errors of the pool.
var (
	// ErrBusy means that the queue of the pool is full.
	ErrBusy = errors.New("the queue for models is full")
	// ErrShut means that the pool is shut. It does not wrap ErrClosed, so a task that may leave goes to the spool.
	ErrShut = errors.New("the pool of models is shut, the service is stopping")
)

// Heavy is work for the pool.
type Heavy struct {
	Due    int64           // deadline as a stamp; the earliest runs first
	Expect float64         // predicted time, s
	Run    func()          // performs the work on a worker, and reports its result itself
	Refuse func(err error) // called instead if the pool shuts first; it must not block
	seq    uint64
}

// Pool runs heavy work separately from the operators, so that operators never wait for it. It has few workers and a bounded queue, and runs the
// earliest deadline first. A caller first takes a place, and then either submits the work or releases the place. Run is never interrupted. A Pool is
// safe for concurrent use.
type Pool struct {
	places  chan struct{} // one for each task that waits or runs
	closing chan struct{}
	workers int
	running sync.WaitGroup

	mu     sync.Mutex
	more   sync.Cond
	queue  heavies
	next   uint64
	ahead  promise // places whose tasks the operators still process
	shut   bool
	active []active // by worker
}

// promise is the work that has a place but is not submitted yet.
type promise struct {
	tasks  int
	expect float64 // s
}

func (a *promise) add(tasks int, expect float64) {
	if a.tasks += tasks; a.tasks == 0 {
		a.expect = 0 // discards rounding errors
		return
	}
	a.expect += float64(tasks) * expect
}

// active is the current work of a worker.
type active struct {
	busy   bool
	since  time.Time
	expect float64
}

// NewPool starts the workers. The configuration must be valid.
func NewPool(c PoolConfig) *Pool {
	n := c.Sized()
	p := &Pool{places: make(chan struct{}, n+c.QueueTasks), closing: make(chan struct{}), workers: n, active: make([]active, n)}
	p.more.L = &p.mu
	for i := range n {
		p.running.Go(func() { p.work(i, c.Nice) })
	}
	return p
}

// Take takes a place for work with a predicted time of expect seconds. If no place is free and wait is set, it waits until ctx ends; otherwise it
// fails with ErrBusy.
func (p *Pool) Take(ctx context.Context, expect float64, wait bool) error {
	if isClosed(p.closing) {
		return ErrShut
	}
	select {
	case p.places <- struct{}{}:
		p.promise(1, expect)
		return nil
	default:
	}
	if !wait {
		return ErrBusy
	}
	select {
	case p.places <- struct{}{}:
		p.promise(1, expect)
		return nil
	case <-p.closing:
		return ErrShut
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrFull, ctx.Err())
	}
}

// Give releases a place whose work is not submitted.
func (p *Pool) Give(expect float64) {
	p.promise(-1, expect)
	<-p.places
}

func (p *Pool) promise(tasks int, expect float64) {
	p.mu.Lock()
	p.ahead.add(tasks, expect)
	p.mu.Unlock()
}

// Submit queues work that has a place. h.Expect must be that of Take.
func (p *Pool) Submit(h Heavy) {
	p.mu.Lock()
	p.ahead.add(-1, h.Expect)
	if !p.shut {
		p.next++
		h.seq = p.next
		heap.Push(&p.queue, h)
		p.more.Signal()
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	h.Refuse(ErrShut)
	<-p.places
}

// Full reports whether no place is free.
func (p *Pool) Full() bool { return len(p.places) == cap(p.places) }

// Queue returns the number of tasks that wait or run, and the predicted time in seconds until a worker is free for another task.
func (p *Pool) Queue() (tasks int, seconds float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tasks, seconds = len(p.queue.list)+p.ahead.tasks, p.queue.expect+p.ahead.expect
	for i := range p.active {
		if a := &p.active[i]; a.busy {
			tasks++
			seconds += max(a.expect-time.Since(a.since).Seconds(), 0)
		}
	}
	if tasks < p.workers {
		return tasks, 0
	}
	return tasks, seconds / float64(p.workers)
}

// work is the loop of one worker. Its thread ends with it, since the thread's priority cannot be raised again.
func (p *Pool) work(i, nice int) {
	if nice > 0 {
		runtime.LockOSThread()
		lower(nice)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for !p.shut && len(p.queue.list) == 0 {
			p.more.Wait()
		}
		if p.shut {
			return
		}
		h, _ := heap.Pop(&p.queue).(Heavy)
		p.active[i] = active{true, time.Now(), h.Expect}
		p.mu.Unlock()
		h.Run()
		p.mu.Lock()
		p.active[i] = active{}
		<-p.places
	}
}

// Shut refuses the queued work and waits for the running work until ctx ends. It can be called more than once.
func (p *Pool) Shut(ctx context.Context) error {
	p.mu.Lock()
	if !p.shut {
		p.shut = true
		close(p.closing)
	}
	left := p.queue
	p.queue = heavies{}
	p.more.Broadcast()
	p.mu.Unlock()
	for _, h := range left.list {
		h.Refuse(ErrShut)
		<-p.places
	}
	ended := make(chan struct{})
	go func() {
		p.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the pool of models while one computes: %w", ctx.Err())
	}
}

// heavies is a heap ordered by deadline, and then by order of submission.
type heavies struct {
	list   []Heavy
	expect float64 // sum, s
}

func (q *heavies) Len() int { return len(q.list) }
func (q *heavies) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q.list[i].Due, q.list[j].Due), cmp.Compare(q.list[i].seq, q.list[j].seq)) < 0
}
func (q *heavies) Swap(i, j int) { q.list[i], q.list[j] = q.list[j], q.list[i] }

// Push implements heap.Interface.
func (q *heavies) Push(x any) {
	h, _ := x.(Heavy)
	q.list = append(q.list, h)
	q.expect += h.Expect
}

// Pop implements heap.Interface.
func (q *heavies) Pop() any {
	last := len(q.list) - 1
	h := q.list[last]
	q.list[last] = Heavy{}
	q.list = q.list[:last]
	if q.expect -= h.Expect; last == 0 {
		q.expect = 0 // discards rounding errors
	}
	return h
}

// defaultDeadline is the deadline of work without one. The work runs after work that is due sooner.
const defaultDeadline = time.Minute

// DueOf returns the deadline of a task received at a stamp.
func DueOf(received int64, deadline time.Duration) int64 {
	return min(received, math.MaxInt64-int64(24*time.Hour)) + int64(cmp.Or(deadline, defaultDeadline))
}
