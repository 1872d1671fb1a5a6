package infer

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models"
	"app-offload/functions/models/hard"
)

// The budgets are written only after a change: a write costs flash.
func TestBudgetsAreWrittenWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	cfg := models.DefaultConfig()
	cfg.Dir = dir
	store, err := models.Open(t.Context(), cfg, nil)
	require.NoError(t, err)
	defer store.Close(t.Context())
	r := &Room{store: store}
	w := &work{rule: &rule{budget: hard.NewBudget(10, 10, nil)}}
	r.works.Store(&map[string]*work{"c": w, "without": {}})
	written := func() bool {
		_, err := os.Stat(dir + "/" + budgetsFile)
		_ = os.Remove(dir + "/" + budgetsFile)
		return err == nil
	}
	require.NoError(t, r.saveBudgets())
	require.True(t, written(), "the first")
	require.NoError(t, r.saveBudgets())
	require.False(t, written())
	require.True(t, w.spend())
	require.NoError(t, r.saveBudgets())
	require.True(t, written())
	r.works.Store(&map[string]*work{"c": {rule: &rule{budget: hard.NewBudget(10, 10, nil)}}})
	require.NoError(t, r.saveBudgets())
	require.True(t, written(), "a reload has begun a new budget")
}
