package batch

// split shares bytes between a first party, which is served first, and a second one, which keeps a share. Whatever the
// first party sends while the second waits earns the second credit; once the credit pays for its next batch, it has its
// turn. Over any time in which the second always has something to send it gets its share, less at most one batch. What
// it sends while the first has nothing counts as well, so that a first party that needs less than its part never waits.
type split struct {
	earn   float64 // credit per byte of the first party
	credit float64
	cap    float64 // so that a long wait for one huge batch never turns into a long burst
}

func newSplit(share float64, largest int) split {
	earn := share / (1 - share)
	return split{earn: earn, cap: max(2, earn+1) * float64(largest)} // what one batch of the first earns, and a batch that is under way
}

// second reports whether the second party goes now with a batch of the given size, both having one ready.
func (s *split) second(size int) bool { return s.earn > 0 && s.credit >= min(float64(size), s.cap) }

// served books what the second party sent, or what the first sent while the second waited.
func (s *split) served(second bool, size int) {
	if second {
		s.credit = max(0, s.credit-float64(size))
		return
	}
	s.credit = min(s.cap, s.credit+float64(size)*s.earn)
}
