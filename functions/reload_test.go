package functions

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/decide"
)

// A change of the configuration takes effect as a whole: if any part cannot prepare for it, no other part changes.
func TestNoHalfOfAReloadTakesEffect(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	w := s.Config().Writable
	w.Policy.Default, w.Batch.MaxCount = "cloud", 7
	parts := len(s.reloadables())
	require.Equal(t, 4, parts, "a further part is a further row")
	for failing := range parts {
		all, committed := s.reloadables(), 0
		for i := range all {
			prepare := all[i].prepare
			all[i].prepare = func(w config.Writable, r *decide.Rules) (func(), error) {
				if i == failing {
					return nil, errors.New("no room")
				}
				commit, err := prepare(w, r)
				return func() { committed++; commit() }, err
			}
		}
		rules, version := s.rules.Load(), s.Config().Writable.Version()
		require.ErrorContains(t, s.reload(w, all), "preparing "+all[failing].name+": no room")
		require.Zero(t, committed, all[failing].name)
		require.Same(t, rules, s.rules.Load())
		require.Equal(t, version, s.Config().Writable.Version())
		require.Equal(t, version, s.Status().Configuration.Version)
	}
	require.NoError(t, s.Reload(w))
	require.Equal(t, w.Version(), s.Status().Configuration.Version)
	require.Equal(t, "cloud", s.Status().Policies.Acting[""])
}

// Each part rejects what it cannot accept by itself, with its previous state in force.
func TestEachPartRefusesWhatItCannotTake(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	w := s.Config().Writable
	rules := s.rules.Load()
	for name, prepare := range map[string]func() (func(), error){
		"batch": func() (func(), error) {
			bad := w.Batch
			bad.MaxAge = "soon"
			return s.scheduler.Prepare(bad, rules.Classes)
		},
		"operators": func() (func(), error) {
			bad := s.cfg.Local
			bad.Operators = "guess"
			return s.local.Prepare(bad, rules.Classes)
		},
	} {
		commit, err := prepare()
		require.Error(t, err, name)
		require.Nil(t, commit, name)
	}
}
