package hard

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// recentExamples is the size of the window of recent examples.
const recentExamples = 500

// hardest selects the hardest share of the recent examples: the share is known without a threshold, and the selection follows changes of the data. An
// example exactly at the limit is not hard, so that equal examples are not all selected. While the window has less than a fiftieth of its size,
// nothing is hard.
type hardest struct {
	Filter
	share float64

	mu     sync.Mutex
	ring   [recentExamples]float64 // in order of arrival
	sorted []float64
	at     int
}

func newHardest(f Filter, share float64) *hardest {
	return &hardest{Filter: f, share: share, sorted: make([]float64, 0, recentExamples)}
}

func (f *hardest) Hard(e *Example) bool {
	h, ok := f.Hardness(e)
	if !ok || math.IsNaN(h) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.sorted)
	hard := n >= recentExamples/50 && h > f.sorted[min(int((1-f.share)*float64(n)), n-1)]
	if n == recentExamples {
		old, _ := slices.BinarySearch(f.sorted, f.ring[f.at])
		f.sorted = slices.Delete(f.sorted, old, old+1)
	}
	f.ring[f.at] = h
	f.at = (f.at + 1) % recentExamples
	at, _ := slices.BinarySearch(f.sorted, h)
	f.sorted = slices.Insert(f.sorted, at, h)
	return hard
}

func (f *hardest) String() string {
	return fmt.Sprintf("the hardest %g %% of the last %d by: %s", 100*f.share, recentExamples, f.Filter)
}
