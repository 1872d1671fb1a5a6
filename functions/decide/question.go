package decide

import (
	"math"
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"

	"github.com/google/uuid"
)

// Question describes a task of another program that asks where to process it.
type Question struct {
	SizeKB     float64 // KB of 1,024 bytes
	Complexity float64 // 0–100
	DeadlineMS float64 // ms from now, 0 for no deadline
	Policy     string  // "" selects the default policy
}

// maxQuestionKB is the size of the largest task in a question: 1 TB.
const maxQuestionKB = 1 << 30

// Check reports every field that is out of range.
func (q Question) Check() error {
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

// Answer decides the question for a node in the given state, by the same guards and policies as for the node's own tasks. The task gets a new id.
func (r *Rules) Answer(q Question, s *host.State) Case {
	c := Case{Task: &task.Task{
		EventID: uuid.NewString(), Of: 1, Received: s.Time, Nominal: q.size(),
		Complexity: q.Complexity, Deadline: time.Duration(q.DeadlineMS * float64(time.Millisecond)),
	}}
	r.DecideBy(strings.TrimSpace(q.Policy), &c, s)
	return c
}

// size returns the size in bytes, limited to the range of int.
func (q Question) size() int { return int(min(q.SizeKB*score.KB, math.MaxInt)) }
