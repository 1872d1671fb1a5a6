package functions

import (
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"

	"github.com/google/uuid"
)

// Question is a task that another program has and asks where to process.
type Question struct {
	SizeKB     float64 // KB of 1,024 bytes
	Complexity float64 // 0–100
	DeadlineMS float64 // ms from now, 0 for no deadline
	Policy     string  // "" is the default policy
}

// maxQuestionKB is the largest task that may be asked for: 1 TB.
const maxQuestionKB = 1 << 30

// Advise decides for a task that is not here, by the same guards and policies as for one that is. The decision is noted
// among the others; its id is the task's.
func (s *Service) Advise(q Question) (decision.Entry, error) {
	if err := q.check(); err != nil {
		return decision.Entry{}, err
	}
	r := &run{rules: s.rules.Load()}
	s.look(&r.state)
	j := &job{Case: q.decide(r.rules, &r.state)}
	entry, _ := s.Decision(s.enter(r, j, j.Decision))
	return entry, nil
}

func (q Question) check() error {
	problems := check.In("")
	check.Range(problems, "dataSize", q.SizeKB, 0, maxQuestionKB)
	check.Range(problems, "complexity", q.Complexity, 0, 100)
	check.Range(problems, "deadline", q.DeadlineMS, 0, float64(24*time.Hour/time.Millisecond))
	if q.Policy != "" {
		if err := policy.Known(q.Policy); err != nil {
			problems.Add(err)
		}
	}
	return problems.Err()
}

// decide answers the question for a node in the given state.
func (q Question) decide(r *decide.Rules, s *host.State) decide.Case {
	c := decide.Case{Task: &task.Task{
		EventID: uuid.NewString(), Of: 1, Received: s.Time, Nominal: int(q.SizeKB * score.KB),
		Complexity: q.Complexity, Deadline: time.Duration(q.DeadlineMS * float64(time.Millisecond)),
	}}
	r.DecideBy(strings.TrimSpace(q.Policy), &c, s)
	return c
}
