package judge

import (
	"time"

	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
)

// clock measures one decision in microseconds: the situations of an episode are decided over and over, by a policy that
// has lived through it. Each round is later than the one before, as some policies count arrivals. The fastest of several rounds
// counts, as others use this machine too.
func clock(w *sim.World, c Contestant, seed uint64) (float64, error) {
	p, err := c.Make(0)
	if err != nil {
		return 0, err
	}
	env, err := sim.NewEnv(w)
	if err != nil {
		return 0, err
	}
	var seen []sim.Situation
	sim.Play(env, w.Draw(seed), p, func(s *sim.Situation, _ decision.Decision, _ sim.Info) { seen = append(seen, *s) })
	const rounds = 50
	fastest := time.Duration(1<<63 - 1)
	span := seen[len(seen)-1].State.Time - seen[0].State.Time + int64(time.Second)
	for range rounds {
		for i := range seen {
			seen[i].State.Time += span
			seen[i].Task.Received += span
		}
		start := time.Now()
		for i := range seen {
			s := &seen[i]
			p.Decide(&s.Task, &s.Estimate, &s.State)
		}
		fastest = min(fastest, time.Since(start))
	}
	return fastest.Seconds() * 1e6 / float64(len(seen)), nil
}
