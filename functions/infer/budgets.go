package infer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"app-offload/functions/models"
	"app-offload/functions/models/hard"
)

// budgetsFile keeps in the folder of models what classes have spent on hard examples, so that a restart is no new budget.
const budgetsFile = "budgets.json"

// loadBudgets takes over what an earlier run has spent. A file that cannot be read is a problem of the log alone: the budgets begin anew.
func (r *Room) loadBudgets() {
	b, err := models.ReadFile(r.store.Root(), budgetsFile, 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	spent := map[string]hard.Spending{}
	if err == nil {
		err = json.Unmarshal(b, &spent)
	}
	if err != nil {
		r.deps.Log.Warnf("resetting the budgets of hard examples, their file is unreadable: file=%s error=%q", budgetsFile, err)
		return
	}
	for class, w := range *r.works.Load() {
		if s, ok := spent[class]; ok && w.rule != nil {
			w.budget.Load(s)
		}
	}
}

// saveBudgets keeps what was spent, where that has changed. A power cut leaves the old file or the new one. Callers take turns.
func (r *Room) saveBudgets() error {
	spent, taken := map[string]hard.Spending{}, map[*hard.Budget]uint64{}
	for class, w := range *r.works.Load() {
		if w.rule != nil {
			taken[w.budget] = w.budget.Taken() // before Save: what is taken between the two is written again
			spent[class] = w.budget.Save()
		}
	}
	if len(spent) == 0 || maps.Equal(taken, r.saved) {
		return nil // a write and its sync cost flash
	}
	b, err := json.Marshal(spent)
	if err == nil {
		err = models.WriteFile(r.store.Root(), budgetsFile, b)
	}
	if err != nil {
		return fmt.Errorf("keeping the budgets of hard examples: %w", err)
	}
	r.saved = taken
	return nil
}
