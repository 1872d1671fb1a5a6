package hard

import (
	"sync"
	"time"

	"app-offload/functions/clock"
)

// The current minute counts, so a window has one slot more than minutes.
const (
	slot      = time.Minute
	slots     = 24*60 + 1
	hourSlots = 60 + 1
)

// Budget bounds the number of hard examples that are sent: at most hour in an hour, and day in a day. It counts by the minute, so spending expires up
// to a minute late. It uses a clock that does not step. It is safe for concurrent use.
type Budget struct {
	hour, day int
	clock     *clock.Clock

	mu      sync.Mutex
	origin  int64 // stamp of the beginning of slot 0
	at      int64 // the current slot at the last call
	spent   [slots]uint32
	refused uint64
	taken   uint64
}

// NewBudget returns an unspent budget; 0 means no limit.
func NewBudget(hour, day int, c *clock.Clock) *Budget {
	b := &Budget{hour: hour, day: day, clock: c.Or()}
	b.origin = b.clock.Now()
	return b
}

func (b *Budget) now() int64 { return (b.clock.Now() - b.origin) / int64(slot) }

// Take takes one example from both limits, or from neither.
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

// Spent returns the examples taken in the last hour and day, and the number refused since the start.
func (b *Budget) Spent() (hour, day int, refused uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(b.now())
	hour, day = b.sums()
	return hour, day, b.refused
}

// Taken returns the number of examples taken since the start. While it does not change, neither does the saved Spending.
func (b *Budget) Taken() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}

// turn clears the slots that have passed.
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

// Spending is the saved state of a budget.
type Spending struct {
	At    clock.Moment  `json:"at"`
	Phase time.Duration `json:"phase"` // elapsed part of the current minute
	Spent []uint32      `json:"spent"` // by the minute, newest first, without trailing zeros
}

// Save returns the state for Load after a restart.
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

// Load replaces the spending by that of an earlier process, so that a restart does not reset the budget. Only time that provably passed counts.
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
