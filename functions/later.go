package functions

import "sync"

// later does what a goroutine that must not block has left to do: one thing after the other, in the order in which they came, on a
// goroutine that runs only while there is work. The gate bounds the queue, as each entry is the work of an event under way.
type later struct {
	mu   sync.Mutex
	todo []func()
	busy bool
}

// do returns at once.
func (l *later) do(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.todo = append(l.todo, f)
	if !l.busy {
		l.busy = true
		go l.run()
	}
}

func (l *later) run() {
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
