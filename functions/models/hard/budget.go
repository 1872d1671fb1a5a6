package hard

import (
	"sync"
	"time"

	"app-offload/functions/clock"
)

// The minute under way counts, so that a window has one slot more than it has minutes.
const (
	slot      = time.Minute
	slots     = 24*60 + 1
	hourSlots = 60 + 1
)

// Budget bounds how many hard examples leave: never more than hour in an hour, nor more than day in a day. It counts by the minute, so that
// what was spent comes back up to a minute late. Time is that of a clock that does not step. It is safe for concurrent use.
type Budget struct {
	hour, day int
	clock     *clock.Clock

	mu      sync.Mutex
	origin  int64 // a stamp: the beginning of slot 0
	at      int64 // the slot of the last look
	spent   [slots]uint32
	refused uint64
	taken   uint64
}

// NewBudget makes a budget of which nothing is spent; 0 is no limit.
func NewBudget(hour, day int, c *clock.Clock) *Budget {
	b := &Budget{hour: hour, day: day, clock: c.Or()}
	b.origin = b.clock.Now()
	return b
}

func (b *Budget) now() int64 { return (b.clock.Now() - b.origin) / int64(slot) }

// Take takes one from both, or neither.
func (b *Budget) Take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(b.now())
	hour, day := b.sums()
	if b.hour > 0 && hour >= b.hour || b.day > 0 && day >= b.day {
		b.refused++
		return false
	}
	b.spent[b.at%slots]++
	b.taken++
	return true
}

// Spent is what was taken in the last hour and day, and how many were refused since the start.
func (b *Budget) Spent() (hour, day int, refused uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(b.now())
	hour, day = b.sums()
	return hour, day, b.refused
}

// Taken is how often one was taken since the start. While it stays, a saved Spending says the same as a new one would.
func (b *Budget) Taken() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}

// turn empties the slots that have passed.
func (b *Budget) turn(now int64) {
	for range min(now-b.at, slots) {
		b.at++
		b.spent[b.at%slots] = 0
	}
	b.at = max(b.at, now)
}

func (b *Budget) sums() (hour, day int) {
	for i := range int64(slots) {
		n := int(b.spent[(b.at-i+slots)%slots])
		if day += n; i < hourSlots {
			hour += n
		}
	}
	return hour, day
}

// Spending is what a file keeps of a budget.
type Spending struct {
	At    clock.Moment  `json:"at"`
	Phase time.Duration `json:"phase"` // of the minute that was under way
	Spent []uint32      `json:"spent"` // by the minute, the newest first, without zeros at the end
}

// Save is the state for Load after a restart.
func (b *Budget) Save() Spending {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(b.now())
	s := Spending{At: b.clock.Moment(), Phase: time.Duration(b.clock.Now()-b.origin) % slot}
	for i := range int64(slots) {
		if n := b.spent[(b.at-i+slots)%slots]; n > 0 {
			for int64(len(s.Spent)) < i {
				s.Spent = append(s.Spent, 0)
			}
			s.Spent = append(s.Spent, n)
		}
	}
	return s
}

// Load replaces what was spent by what a process before has spent, so that a restart is no new budget. Time that cannot be proved to have
// passed does not count.
func (b *Budget) Load(s Spending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	passed := min(max(s.Phase, 0), slot) + b.clock.Moment().Since(s.At)
	b.origin, b.at, b.spent = b.clock.Now()-int64(passed%slot), 0, [slots]uint32{}
	for i, n := range s.Spent {
		if age := int64(i) + int64(passed/slot); age < slots {
			b.spent[(slots-age)%slots] = min(n, 1<<20)
		}
	}
}
