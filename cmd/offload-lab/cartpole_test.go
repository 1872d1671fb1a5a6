//go:build !race

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/rl"
)

// The learner as a whole is judged on a problem whose best is known; under the race detector this would take minutes, and
// there is one goroutine.
func TestLearnerMastersCartPole(t *testing.T) {
	l, err := lessonNamed("cartpole", &gatewayFlags{})
	require.NoError(t, err)
	require.NoError(t, l.set("", 1, 50_000))
	s, err := l.begin(nil)
	require.NoError(t, err)
	for !s.Finished() {
		s.Update()
	}
	env, err := l.env()
	require.NoError(t, err)
	mean, _ := moments(rl.Evaluate(s.Actor(), env, 100, 1_000_000))
	require.Greater(t, mean, 475.0, "from which Gymnasium calls it solved; twice the steps reach 500")
}
