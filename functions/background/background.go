// Package background does what a goroutine that must not block has left to do.
package background

import "sync"

// Queue does one thing after the other, in the order in which they came, on a
// goroutine that runs only while there is work. It has no bound of its own: each entry is to be the work of
// a task that something else bounds. The zero value is empty. It is safe for concurrent use.
type Queue struct {
	mu   sync.Mutex
	todo []func()
	busy bool
}

// Do returns at once.
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
		l.todo[0] = nil // or what it holds would live on
		l.todo = l.todo[1:]
		l.mu.Unlock()
		f()
	}
}
