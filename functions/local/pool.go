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

// PoolConfig bounds the pool of heavy work. The words are those of the section Models.
type PoolConfig struct {
	// Workers is how many models compute at the same time, each on one core. 0 leaves one core to the operators, where there are several.
	Workers int `within:"0 256"`
	// QueueTasks is how many tasks may wait for a model. While the queue is full, tasks go to the cloud; those that must stay make their sender wait.
	QueueTasks int `within:"1 100000"`
	// Nice lowers the priority of the models' threads, 0 to 19, as nice(1) does, so that operators and exporter come first. 0 is that of the
	// process. It needs Linux.
	Nice int `within:"0 19"`
}

// DefaultPoolConfig suits a gateway of few cores.
func DefaultPoolConfig() PoolConfig { return PoolConfig{QueueTasks: 64, Nice: 5} }

// Sized is the number of workers.
func (c PoolConfig) Sized() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return max(runtime.GOMAXPROCS(0)-1, 1)
}

// Why the pool takes no work.
var (
	// ErrBusy says that the queue of the pool is full.
	ErrBusy = errors.New("the queue for models is full")
	// ErrShut says that the pool is shut. It is no ErrClosed, so that a task that may leave goes to the spool.
	ErrShut = errors.New("models take no more tasks, as the service is stopping")
)

// Heavy is work for the pool.
type Heavy struct {
	Due    int64           // stamp of the deadline; the earliest goes first
	Expect float64         // s that it is predicted to take
	Run    func()          // does it, on a worker; it reports for itself
	Refuse func(err error) // is called in its place when the pool shuts first; it must not block
	seq    uint64
}

// Pool does heavy work apart from the operators, so that none of them waits behind it: few workers, a bounded queue, the earliest deadline
// first. A caller takes a place first, and then either submits the work or gives the place back. Run is never interrupted. It is safe
// for concurrent use.
type Pool struct {
	places  chan struct{} // one for each task that waits or runs
	closing chan struct{}
	workers int
	running sync.WaitGroup

	mu     sync.Mutex
	more   sync.Cond
	queue  heavies
	next   uint64
	ahead  promise // places whose work is still with the operators
	shut   bool
	active []active // by worker
}

// promise is work that has a place and was not submitted yet.
type promise struct {
	tasks  int
	expect float64 // s
}

func (a *promise) add(tasks int, expect float64) {
	if a.tasks += tasks; a.tasks == 0 {
		a.expect = 0 // no sum of roundings
		return
	}
	a.expect += float64(tasks) * expect
}

// active is what a worker is at.
type active struct {
	busy   bool
	since  time.Time
	expect float64
}

// NewPool starts the workers. The configuration has been validated.
func NewPool(c PoolConfig) *Pool {
	n := c.Sized()
	p := &Pool{places: make(chan struct{}, n+c.QueueTasks), closing: make(chan struct{}), workers: n, active: make([]active, n)}
	p.more.L = &p.mu
	for i := range n {
		p.running.Go(func() { p.work(i, c.Nice) })
	}
	return p
}

// Take takes a place for work that is predicted to take expect seconds. With wait it waits for one until ctx ends, without it fails with ErrBusy.
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

// Give gives a place back for which there is no work after all.
func (p *Pool) Give(expect float64) {
	p.promise(-1, expect)
	<-p.places
}

func (p *Pool) promise(tasks int, expect float64) {
	p.mu.Lock()
	p.ahead.add(tasks, expect)
	p.mu.Unlock()
}

// Submit queues work that has a place, taken with the same expectation.
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

// Full reports whether there is no place.
func (p *Pool) Full() bool { return len(p.places) == cap(p.places) }

// Queue is how many tasks wait or run, and in how many seconds a worker is predicted to be free for one more.
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

// work is one worker. Its thread ends with it, as its priority cannot be raised again.
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

// Shut refuses the waiting work and waits for the running work, at most until ctx ends. It can be called more than once.
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

// heavies is a heap, the earliest deadline first, and of equal ones the first that came.
type heavies struct {
	list   []Heavy
	expect float64 // s in all
}

func (q *heavies) Len() int { return len(q.list) }
func (q *heavies) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q.list[i].Due, q.list[j].Due), cmp.Compare(q.list[i].seq, q.list[j].seq)) < 0
}
func (q *heavies) Swap(i, j int) { q.list[i], q.list[j] = q.list[j], q.list[i] }

// Push is that of container/heap.
func (q *heavies) Push(x any) {
	h, _ := x.(Heavy)
	q.list = append(q.list, h)
	q.expect += h.Expect
}

// Pop is that of container/heap.
func (q *heavies) Pop() any {
	last := len(q.list) - 1
	h := q.list[last]
	q.list[last] = Heavy{}
	q.list = q.list[:last]
	if q.expect -= h.Expect; last == 0 {
		q.expect = 0 // no sum of roundings
	}
	return h
}

// patienceWithout is the deadline of work that has none: it goes behind what is due sooner, and no later than that.
const patienceWithout = time.Minute

// DueOf is the deadline of a task received at a stamp.
func DueOf(received int64, deadline time.Duration) int64 {
	return min(received, math.MaxInt64-int64(24*time.Hour)) + int64(cmp.Or(deadline, patienceWithout))
}
