package infer

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// CanaryConfig sets the trial of a new version of a model. While the pool is otherwise idle, the new version and the version in force compute the
// same tasks; only the answers of the version in force are published.
type CanaryConfig struct {
	// Tasks is the number of tasks that both versions compute, 20 to 100000. 0 puts a new version in force immediately.
	Tasks int
	// Disagreement is the share of different answers, 0 to 1, above which the new version is rolled back. Numbers that differ by more than 10 % are
	// different.
	Disagreement float64 `within:"0 1"`
	// Slower is the largest allowed ratio of the run times of the new version and the version in force, 1 to 100. Above it, the new version is rolled
	// back.
	Slower float64 `within:"1 100"`
}

// DefaultCanaryConfig tries a version on 100 tasks.
func DefaultCanaryConfig() CanaryConfig {
	return CanaryConfig{Tasks: 100, Disagreement: 0.2, Slower: 2}
}

// Check adds the problems of the configuration to p.
func (c CanaryConfig) Check(p *check.Problems) {
	check.Range(p, "Tasks", c.Tasks, fewestPairs, 100_000, 0)
}

const (
	fewestPairs = 20   // minimum before a verdict
	failedShare = 0.02 // share of failed runs above which a canary is rolled back
	numbersNear = 0.1  // relative difference up to which numbers agree
	noise       = 50e-6
)

// States of a trial.
const (
	TrialRuns       = "running"
	TrialPromoted   = "promoted"
	TrialRolledBack = "rolledBack"
)

// CanaryStats is the state of the latest canary of a model.
type CanaryStats struct {
	Model     string         `json:"model"`
	Version   models.Version `json:"version"`
	Against   models.Version `json:"against"` // the version in force
	State     string         `json:"state"`   // running, promoted or rolledBack
	Tasks     int            `json:"tasks"`   // computed by both versions
	Of        int            `json:"of"`
	Different int            `json:"different"` // answers
	Failed    int            `json:"failed"`    // runs of the canary
	Run       float64        `json:"run"`       // s, mean of the canary
	Usual     float64        `json:"usual"`     // s, mean of the version in force
	Reason    string         `json:"reason,omitempty"`
}

// trial compares the canary of one model with the version in force. It is safe for concurrent use.
type trial struct {
	mu    sync.Mutex
	stats CanaryStats
}

// begin discards the pairs of answers.
func (t *trial) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats = CanaryStats{}
}

func (t *trial) load() (CanaryStats, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats, t.stats.Version != ""
}

// try runs the canary of a model on a task that the version in force has answered, if there is a canary and the pool has no backlog.
func (r *Room) try(w *work, t *task.Task, usual *models.Answer) {
	if r.cfg.Canary.Tasks == 0 {
		return
	}
	v, on := r.store.Canary(w.model)
	if waiting, _ := r.pool.Queue(); !on || waiting > r.cfg.Pool.Sized() {
		return
	}
	one, err := r.runCanary(w, t)
	if errors.Is(err, models.ErrUnknown) || err == nil && one.Version != v || r.ctx.Err() != nil {
		return // settled meanwhile, or the service is stopping
	}
	if state := w.trial.add(v, usual, &one, err, r.cfg.Canary); state != TrialRuns {
		r.settle(w, v, state == TrialPromoted)
	}
}

func (r *Room) runCanary(w *work, t *task.Task) (a models.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the canary panicked: %v", v)
		}
	}()
	return r.store.RunCanary(r.ctx, w.model, t)
}

func (r *Room) settle(w *work, v models.Version, promote bool) {
	err := r.store.Settle(w.model, v, promote)
	stats, _ := w.trial.load()
	switch {
	case errors.Is(err, models.ErrUnknown): // the canary was evicted, and may come again, or was put in force manually
		w.trial.begin()
	case err != nil: // the store keeps the canary
		w.trial.begin()
		r.deps.Log.Warnf("restarting the trial of a model: error=%q", err)
	case promote:
		r.deps.Log.Infof("canary of a model promoted: model=%s version=%s previous=%s tasks=%d different=%d", w.model, v, stats.Against, stats.Tasks, stats.Different)
	default:
		r.deps.Log.Warnf("canary of a model rolled back: model=%s version=%s keeping=%s reason=%q", w.model, v, stats.Against, stats.Reason)
	}
}

// add records a pair of answers and returns the new state.
func (t *trial) add(v models.Version, usual, canary *models.Answer, failure error, c CanaryConfig) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.stats
	if s.Version != v || s.Against != usual.Version {
		*s = CanaryStats{Model: usual.Model, Version: v, Against: usual.Version, State: TrialRuns, Of: c.Tasks}
	}
	if s.State != TrialRuns {
		return TrialRuns // settled already
	}
	s.Tasks++
	s.Usual += (usual.Took.Seconds() - s.Usual) / float64(s.Tasks)
	switch {
	case failure != nil:
		s.Failed++
		s.Reason = failure.Error()
	default:
		s.Run += (canary.Took.Seconds() - s.Run) / float64(s.Tasks-s.Failed)
		if !agree(usual, canary) {
			s.Different++
		}
	}
	s.State = s.judge(c)
	return s.State
}

// judge ends a trial early only if a share exceeds its limit by three standard deviations, or a run takes twice the allowed time.
func (s *CanaryStats) judge(c CanaryConfig) string {
	if s.Tasks < fewestPairs {
		return TrialRuns
	}
	done := s.Tasks >= c.Tasks
	above := func(count int, limit float64) bool {
		share, n := float64(count)/float64(s.Tasks), float64(s.Tasks)
		doubt := 3 * math.Sqrt(max(share*(1-share), 1/n)/n)
		return done && share > limit || share-doubt > limit
	}
	switch slow := c.Slower*s.Usual + noise; {
	case above(s.Failed, failedShare):
		s.Reason = fmt.Sprintf("%d of %d runs failed, the latest: %s", s.Failed, s.Tasks, s.Reason)
		return TrialRolledBack
	case above(s.Different, c.Disagreement):
		s.Reason = fmt.Sprintf("%d of %d answers differ from those of version %s, more than %.0f %%", s.Different, s.Tasks, s.Against, 100*c.Disagreement)
		return TrialRolledBack
	case done && s.Run > slow || s.Run > 2*slow:
		s.Reason = fmt.Sprintf("a run takes %v, version %s %v", time.Duration(s.Run*1e9).Round(time.Microsecond), s.Against, time.Duration(s.Usual*1e9).Round(time.Microsecond))
		return TrialRolledBack
	case done:
		s.Reason = ""
		return TrialPromoted
	}
	return TrialRuns
}

// agree reports whether two answers have the same label and nearly the same numbers.
func agree(a, b *models.Answer) bool {
	if a.Label != b.Label || len(a.Values) != len(b.Values) {
		return false
	}
	for i, v := range a.Values {
		if math.Abs(v-b.Values[i]) > numbersNear*max(math.Abs(v), math.Abs(b.Values[i]), 1e-9) {
			return false
		}
	}
	return true
}
