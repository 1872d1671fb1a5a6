package functions

import (
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"

	"github.com/google/uuid"
)

// Placement is a task that somebody else has and that this node is to find a place for.
type Placement struct {
	SizeKB     float64 // KB of 1,024 bytes
	Complexity float64 // 0–100
	DeadlineMS float64 // ms from now, 0 for no deadline
	Policy     string  // "" is the default policy
}

// maxPlacementKB is the largest task anybody may ask for: 1 TB.
const maxPlacementKB = 1 << 30

// Place decides for a task that is not here, by the same guards and policies as for one that is. The decision is noted
// among the others; its id is the task's.
func (s *Service) Place(p Placement) (decision.Entry, error) {
	problems := check.In("")
	check.Range(problems, "dataSize", p.SizeKB, 0, maxPlacementKB)
	check.Range(problems, "complexity", p.Complexity, 0, 100)
	check.Range(problems, "deadline", p.DeadlineMS, 0, float64(24*time.Hour/time.Millisecond))
	if p.Policy != "" {
		if err := policy.Known(p.Policy); err != nil {
			problems.Add(err)
		}
	}
	if err := problems.Err(); err != nil {
		return decision.Entry{}, err
	}
	r := &run{rules: s.rules.Load()}
	s.look(&r.state)
	t := &task.Task{
		EventID: uuid.NewString(), Of: 1, Received: r.state.Time, Nominal: int(p.SizeKB * score.KB),
		Complexity: p.Complexity, Deadline: time.Duration(p.DeadlineMS * float64(time.Millisecond)),
	}
	j := &job{task: t}
	j.estimate = r.rules.model.Estimate(t, &r.state)
	j.decision, j.policy = r.rules.decider.DecideBy(strings.TrimSpace(p.Policy), t, &j.estimate, &r.state)
	entry, _ := s.Decision(s.enter(r, j, j.decision))
	return entry, nil
}
