package score

import (
	"encoding/json"
	"errors"
	"fmt"

	"app-offload/functions/task"
)

// saved is the learned state on disk: the overall ratios, and those of each class.
type saved struct {
	Local   savedRatio            `json:"local"`
	Cloud   savedRatio            `json:"cloud"`
	Classes map[string]savedClass `json:"classes"`
}

type savedRatio struct {
	Value float64 `json:"value"`
	Count int64   `json:"count"`
}

type savedClass struct {
	Local *line      `json:"local,omitempty"`
	Cloud savedRatio `json:"cloud"`
}

func (r *ratio) save() savedRatio { return savedRatio{r.value.load(), r.count.Load()} }

func (r *ratio) restore(s savedRatio) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value.store(s.Value)
	r.count.Store(s.Count)
}

// valid rejects NaN too.
func (s savedRatio) valid() bool {
	return s.Count == 0 || (s.Count > 0 && s.Value > 0 && s.Value <= maxCorrection)
}

// Save returns the learned state as JSON.
func (m *Model) Save() ([]byte, error) {
	s := saved{m.corrections.all.local.save(), m.corrections.all.cloud.save(), map[string]savedClass{}}
	if known := m.corrections.byName.Load(); known != nil {
		for name, c := range *known {
			own := savedClass{c.local.latest.Load(), c.cloud.save()}
			if own.Local != nil && own.Local.Count == 0 {
				own.Local = nil // it is of other nodes
			}
			s.Classes[name] = own
		}
	}
	return json.Marshal(s)
}

// Restore restores a state that Save returned. On error it changes nothing.
func (m *Model) Restore(raw []byte) error {
	var s saved
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("restoring predictions: %w", err)
	}
	good := s.Local.valid() && s.Cloud.valid() && len(s.Classes) <= maxClasses
	for _, c := range s.Classes {
		good = good && c.Cloud.valid() && (c.Local == nil || c.Local.valid())
	}
	if !good {
		return errors.New("restoring predictions: the state contains invalid numbers")
	}
	m.corrections.all.local.restore(s.Local)
	m.corrections.all.cloud.restore(s.Cloud)
	for name, c := range s.Classes {
		own := m.corrections.own(&task.Class{Name: name})
		if own == nil {
			continue // the table is full of other classes
		}
		own.cloud.restore(c.Cloud)
		if c.Local != nil {
			own.local.restore(*c.Local)
		}
	}
	return nil
}
