package faults

import (
	"context"
	"fmt"
	"time"

	"app-offload/functions/badlink"
	"app-offload/functions/spool"
)

// How long app-offload runs before it is measured, and how long it is then measured for comparison. Caches are filled
// by then and the heap has found its size.
const (
	warmUp     = time.Minute
	comparison = 30 * time.Second
)

// outage is a scenario in which one trouble of the link lasts. What is asked:
//
//  1. Memory and goroutines of app-offload are within a tenth of what they were before. On a link that still carries something memory
//     may grow by what the ring of fresh records is configured to take.
//  2. The intake does not wait for the broker: events come in at the rate at which they are published.
//  3. Afterwards all drains, nothing is lost and nothing is doubled.
//
// That the trouble was one is asked too: of what came in meanwhile at least the share waiting is in the spool at its end.
func outage(kind string, number int, waiting float64) func(*stage, context.Context) error {
	return func(s *stage, ctx context.Context) error {
		s.env = []string{"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", s.quota())}
		return inTurn(ctx, s.start,
			s.observing(&Usage{}, "warming up", min(warmUp, s.duration)), s.observing(&s.result.Before, "before", comparison),
			s.harming(badlink.Troubles[kind][number]), s.timed(s.observing(&s.result.During, s.name, s.duration)),
			then(func() { s.compareUsage(kind == "slow", waiting) }), s.heal, s.drain)
	}
}

// quota is room for all that is published, in MiB, so that the spool never fills.
func (s *stage) quota() int {
	const record = 700 // bytes, of a plain event with its headers
	return 128 + int(s.rate*(s.duration+warmUp+comparison).Seconds())*record>>20*5/4
}

// compareUsage holds what app-offload takes against what it took before. ringed says that the ring of fresh records may fill: it then
// takes its size, the places of so many small records and the garbage of both.
func (s *stage) compareUsage(ringed bool, waiting float64) {
	b, d := s.result.Before, s.result.During
	if ringed {
		s.bounds(atMost("MiB of RSS while it lasted, above before (most)", float64(d.RSS-b.RSS)/(1<<20), 3*float64(spool.DefaultConfig().RingMiB)))
	} else {
		s.bounds(
			atMost("RSS while it lasted, times before (most)", float64(d.RSS)/float64(b.RSS), 1.1),
			atMost("RSS while it lasted, times before (mean)", float64(d.Mean)/float64(b.Mean), 1.1),
		)
	}
	s.bounds(
		atMost("goroutines while it lasted, times before", float64(d.Goroutines)/float64(b.Goroutines), 1.1),
		atLeast("rate of the intake, times that of the publisher", d.Rate/d.Published, 0.98),
		atMost("s of traffic that the intake was behind", d.Behind, 2),
		atLeast("tasks that wait at the end, times those that came in", float64(d.Spooled)/(d.Published*s.result.Seconds), waiting),
	)
}
