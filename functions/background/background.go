// Package background runs work for goroutines that must not block.
package background

import "sync"

// Queue runs functions one after the other, in the order of the calls, on a goroutine that exists only while there is work. It is unbounded: each
// entry must be the work of a task that is bounded elsewhere. The zero value is empty. It is safe for concurrent use.
type Queue struct {
	mu   sync.Mutex
	todo []func()
	busy bool
}

// Do appends f and returns immediately.
func (l *Queue) Do(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.todo = append(l.todo, f)
	if !l.busy {
		l.busy = true
		go l.run()
	}
}

func (l *Queue) run() {
	for {
		l.mu.Lock()
		if len(l.todo) == 0 {
			l.todo, l.busy = nil, false
			l.mu.Unlock()
			return
		}
		f := l.todo[0]
		l.todo[0] = nil // so that what it refers to can be collected
		l.todo = l.todo[1:]
		l.mu.Unlock()
		f()
	}
}
