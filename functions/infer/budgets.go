package infer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"app-offload/functions/models"
	"app-offload/functions/models/hard"
)

// budgetsFile keeps in the folder of models what classes have spent on hard examples, so that a restart is no new budget.
const budgetsFile = "budgets.json"

// loadBudgets takes over what an earlier run has spent. A file that cannot be read is a problem of the log alone: the budgets begin anew.
func (r *Room) loadBudgets() {
	b, err := r.store.Root().ReadFile(budgetsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	spent := map[string]hard.Spending{}
	if err == nil {
		err = json.Unmarshal(b, &spent)
	}
	if err != nil {
		r.deps.Log.Warnf("models: reading %s: %v; the budgets of hard examples begin anew", budgetsFile, err)
		return
	}
	for class, w := range *r.works.Load() {
		if s, ok := spent[class]; ok && w.rule != nil {
			w.budget.Load(s)
		}
	}
}

// saveBudgets keeps what was spent. A power cut leaves the old file or the new one.
func (r *Room) saveBudgets() error {
	spent := map[string]hard.Spending{}
	for class, w := range *r.works.Load() {
		if w.rule != nil {
			spent[class] = w.budget.Save()
		}
	}
	if len(spent) == 0 {
		return nil
	}
	b, err := json.Marshal(spent)
	if err == nil {
		err = models.WriteFile(r.store.Root(), budgetsFile, b)
	}
	if err != nil {
		return fmt.Errorf("keeping the budgets of hard examples: %w", err)
	}
	return nil
}
