package infer

import (
	"cmp"
	"slices"

	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
)

// Stats is the status of the models. Counts are of tasks since the start; times are in seconds.
type Stats struct {
	Directory string          `json:"directory"`
	Models    []models.Status `json:"models"`
	Problems  []string        `json:"problems,omitempty"` // folders that are no version of a model
	Loads     uint64          `json:"loads"`
	Evictions uint64          `json:"evictions"`
	Swaps     uint64          `json:"swaps"`
	Failures  uint64          `json:"failures"` // of loads
	Bytes     int64           `json:"bytes"`    // memory of models
	Limit     int64           `json:"limit"`
	Tasks     int             `json:"tasks"`   // waiting for a model or running
	Seconds   float64         `json:"seconds"` // until the pool is free, predicted
	Classes   []ClassStats    `json:"classes"`

	Canaries   []CanaryStats       `json:"canaries,omitempty"`
	Deliveries []delivery.Progress `json:"deliveries,omitempty"` // in progress
	Dropped    uint64              `json:"dropped,omitempty"`    // messages of deliveries that found the queue full; the receiver requests them again
}

// ClassStats is the work of one class.
type ClassStats struct {
	Class       string         `json:"class"`
	Model       string         `json:"model"`
	Version     models.Version `json:"version"`     // in force, "" without one
	Final       uint64         `json:"final"`       // answers that are not superseded
	Provisional uint64         `json:"provisional"` // answers that an answer of the cloud supersedes
	Judged      uint64         `json:"judged"`      // sent to the cloud without a local run
	Failed      uint64         `json:"failed"`      // the model, or publishing its answer, failed
	Unread      uint64         `json:"unread"`      // decisions about unreadable events, or while the model was unusable
	Busy        uint64         `json:"busy"`        // the pool was full
	OverBudget  uint64         `json:"overBudget"`  // hard examples that stayed local because of the budget
	Run         float64        `json:"run"`         // s, of a recent run
	Latency     float64        `json:"latency"`     // s, from the reception of an event to its answer, a recent mean
	Late        uint64         `json:"late"`        // answers after the deadline of their task
	MACs        int64          `json:"macs"`        // of a run
	Hard        string         `json:"hard,omitempty"`
	HardHour    int            `json:"hardHour"`          // hard examples of the last hour
	HardDay     int            `json:"hardDay"`           // hard examples of the last day
	Drift       float64        `json:"drift"`             // distance of the model's input from its first input, in standard deviations; 0 while the reference is learned
	Drifted     bool           `json:"drifted"`           // beyond the limit
	Problem     string         `json:"problem,omitempty"` // why the model is unusable
	BadInput    string         `json:"badInput,omitempty"`
}

// Stats gathers everything, nil where no class has a model and there is no folder of them.
func (r *Room) Stats() *Stats {
	works := *r.works.Load()
	if r.store == nil && len(works) == 0 {
		return nil
	}
	s := &Stats{Directory: r.cfg.Directory, Models: []models.Status{}, Classes: []ClassStats{}}
	if r.store != nil {
		c := r.store.Counts()
		s.Loads, s.Evictions, s.Swaps, s.Failures, s.Bytes, s.Limit = c.Loads, c.Evictions, c.Swaps, c.Failures, c.Used, c.Limit
		list, problems := r.store.Status()
		s.Models, s.Problems = append(s.Models, list...), problems
	}
	s.Tasks, s.Seconds = r.Models()
	if d := r.deliveries.Load(); d != nil {
		s.Deliveries, s.Dropped = d.Progress(), d.Dropped()
	}
	for _, w := range works {
		s.Classes = append(s.Classes, r.stats(w))
	}
	r.known.Range(func(_, k any) bool {
		if c, ok := k.(*known).trial.load(); ok {
			s.Canaries = append(s.Canaries, c)
		}
		return true
	})
	slices.SortFunc(s.Canaries, func(a, b CanaryStats) int { return cmp.Compare(a.Model, b.Model) })
	slices.SortFunc(s.Classes, func(a, b ClassStats) int { return cmp.Compare(a.Class, b.Class) })
	return s
}

func (r *Room) stats(w *work) ClassStats {
	c := ClassStats{
		Class: w.class, Model: w.model, Final: w.counts.final.Load(), Provisional: w.counts.provisional.Load(), Judged: w.counts.judged.Load(),
		Failed: w.counts.failed.Load(), Unread: w.counts.unread.Load(), Busy: w.counts.busy.Load(), OverBudget: w.counts.over.Load(),
		Late: w.counts.late.Load(),
	}
	c.Run, _ = w.speed.seconds()
	c.Latency, _ = w.latency.seconds()
	c.Drift, c.Drifted = w.drift.status()
	if w.rule != nil {
		c.Hard = w.filter.String()
		c.HardHour, c.HardDay, _ = w.budget.Spent()
	}
	w.mu.Lock()
	c.Problem, c.BadInput = w.why, w.bad
	w.mu.Unlock()
	if r.store == nil {
		c.Problem = errOff.Error()
		return c
	}
	c.Version, c.MACs, _ = r.store.Measured(w.model)
	if err := r.store.Usable(w.model); err != nil {
		c.Problem = err.Error()
	}
	return c
}
