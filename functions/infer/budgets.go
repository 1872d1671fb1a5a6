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

// budgetsFile holds the hard examples that each class has sent, in the folder of models, so that a restart does not reset the budgets.
const budgetsFile = "budgets.json"

// loadBudgets loads the spending of an earlier run. An unreadable file is logged, and the budgets begin anew.
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

// saveBudgets writes the spending if it has changed. A power cut leaves either the old file or the new one. Calls must not overlap.
func (r *Room) saveBudgets() error {
	spent, taken := map[string]hard.Spending{}, map[*hard.Budget]uint64{}
	for class, w := range *r.works.Load() {
		if w.rule != nil {
			taken[w.budget] = w.budget.Taken() // before Save: an example taken between the two calls is written again
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
		return fmt.Errorf("saving the budgets of hard examples: %w", err)
	}
	r.saved = taken
	return nil
}
