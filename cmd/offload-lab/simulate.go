package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"app-offload/cmd/offload-lab/internal/judge"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// stepLine is one decision of a simulated gateway with its outcome.
type stepLine struct {
	Episode    int     `json:"episode"`
	Task       int     `json:"task"`
	At         float64 `json:"at"` // s since the start of the episode
	Class      string  `json:"class"`
	Bytes      int     `json:"bytes"`
	Complexity float64 `json:"complexity"`
	Deadline   float64 `json:"deadline"` // s

	Policy     string  `json:"policy"`
	Target     string  `json:"target"`
	Score      float64 `json:"score"`
	Propensity float64 `json:"propensity"`
	Reason     string  `json:"reason"`
	LocalTime  float64 `json:"localTime"` // s, predicted
	CloudTime  float64 `json:"cloudTime"` // s, predicted

	Took   float64 `json:"took"` // s, actual
	Missed bool    `json:"missed"`
	Wire   float64 `json:"wire"` // bytes sent
	Joules float64 `json:"joules"`
	Cost   float64 `json:"cost"`
}

// simulateVerb runs policies and writes every step.
func simulateVerb(ctx context.Context, args []string) error {
	var f worldFlags
	fs := flags("simulate")
	f.register(fs)
	names := fs.String("policy", "cost", "policies, separated by commas, each on the same episodes; also article, greedy, ppo=FILE for a network and defer=FILE for a rule")
	episodes := fs.Int("episodes", 1, "number of episodes of 600 tasks")
	explore := fs.Float64("explore", 0, "share of decisions, 0 to 0.5, with the target reversed, as evidence for replay")
	records := fs.Bool("records", false, "write the service's decision log instead of steps")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *episodes < 1 {
		return fmt.Errorf("-episodes %d: must be at least 1", *episodes)
	}
	if !(*explore >= 0 && *explore <= 0.5) {
		return fmt.Errorf("-explore %g: must be within 0–0.5, such as 0.1", *explore)
	}
	w, err := f.world()
	if err != nil {
		return err
	}
	field, err := judge.Field(*names, policies())
	if err != nil {
		return err
	}
	env, err := sim.NewEnv(w)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	lines := stepWriter{to: out, steps: json.NewEncoder(out), records: *records}
	for _, contestant := range field {
		for i := 0; i < *episodes && ctx.Err() == nil; i++ {
			p, err := contestant.Make(i)
			if err != nil {
				return err
			}
			seed := judge.EpisodeSeed(f.seed, i)
			if _, late := p.(policy.Binder); late && *explore > 0 {
				return fmt.Errorf("-explore %g: policy %s binds late, and an immediate reversed decision would be another policy; remove one of the two", *explore, contestant.Name)
			}
			if *explore > 0 {
				p = sim.Explore(p, *explore, seed)
			}
			if err := lines.episode(env, w.Draw(seed), p, contestant.Name, i); err != nil {
				return fmt.Errorf("writing a step: %w", err)
			}
		}
	}
	return out.Flush()
}

// stepWriter writes one line per decision, in the simulator's own form or in that of the service.
type stepWriter struct {
	to      *bufio.Writer
	steps   *json.Encoder
	records bool
	written uint64
	line    []byte
}

// episode runs a policy and writes its steps.
func (w *stepWriter) episode(env *sim.Env, e *sim.Episode, p policy.Policy, name string, number int) (wrong error) {
	sim.Play(env, e, p, func(s *sim.Situation, d decision.Decision, info sim.Info) {
		if wrong == nil {
			wrong = w.write(number, name, e, s, d, info)
		}
	})
	return wrong
}

func (w *stepWriter) write(episode int, name string, e *sim.Episode, s *sim.Situation, d decision.Decision, info sim.Info) error {
	if !w.records {
		return w.steps.Encode(newStepLine(episode, name, e, s, d, info))
	}
	w.written++
	entry := decision.NewEntry(&s.Task, &s.Estimate, &s.State, d, name, "simulated")
	entry.ID = w.written
	waited := entry.Waited.Seconds() // before the decision, where outcomes begin
	entry.Outcome = decision.Outcome{Known: true, Time: info.Took - waited, Bytes: int64(info.Bytes), Energy: info.Joules, Met: !info.Missed}
	var err error
	if w.line, err = decision.AppendRecord(w.line[:0], &entry); err != nil {
		return err
	}
	_, err = w.to.Write(w.line)
	return err
}

func newStepLine(episode int, name string, e *sim.Episode, s *sim.Situation, d decision.Decision, info sim.Info) stepLine {
	return stepLine{
		Episode: episode, Task: info.Job, At: e.Jobs[info.Job].At, Class: s.Task.Class.Name, Bytes: s.Task.Size(),
		Complexity: s.Task.Complexity, Deadline: s.Task.Deadline.Seconds(),
		Policy: name, Target: d.Target.String(), Score: d.Score, Propensity: d.Propensity, Reason: d.Reason.String(),
		LocalTime: s.Estimate.LocalTime, CloudTime: s.Estimate.CloudTime,
		Took: info.Took, Missed: info.Missed, Wire: info.Bytes, Joules: info.Joules, Cost: info.Cost,
	}
}
