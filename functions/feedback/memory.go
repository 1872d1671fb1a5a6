package feedback

import (
	"sync"
	"sync/atomic"
	"time"
)

// outage remembers when the link was last gone for long. Short gaps are of the link's nature, and are learned from.
type outage struct {
	latest atomic.Int64 // stamp
	since  time.Time    // of the present one, zero while the link is up; see's alone
}

const outageLong = 5 * time.Second

// see takes one look at the link.
func (o *outage) see(up bool, now time.Time) {
	switch {
	case up:
		o.since = time.Time{}
	case o.since.IsZero():
		o.since = now
	case now.Sub(o.since) >= outageLong:
		o.latest.Store(now.UnixNano())
	}
}

// answers remembers for which classes the consumer sends results. One result makes the next receipts wait for theirs;
// after answerPatience receipts without a result they count by themselves again. Safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	left map[string]int // receipts that may still wait, by class
}

const (
	answerPatience = 100
	maxAnswers     = 4096 // classes remembered
)

func newAnswers() *answers { return &answers{left: map[string]int{}} }

func (a *answers) came(class string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.left[class]; known || len(a.left) < maxAnswers {
		a.left[class] = answerPatience
	}
}

func (a *answers) expected(class string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.left[class]
	if left > 0 {
		a.left[class] = left - 1
	}
	return left > 0
}
