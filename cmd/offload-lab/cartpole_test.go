//go:build !race

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The whole learner is judged on a problem with a known optimum. Under the race detector this would take minutes, for a single goroutine.
func TestLearnerMastersCartPole(t *testing.T) {
	if testing.Short() {
		t.Skip("learns for seconds; make test runs it")
	}
	l, err := lessonNamed("cartpole", &gatewayFlags{})
	require.NoError(t, err)
	require.NoError(t, l.set("", 1, 50_000))
	s, err := l.begin(nil)
	require.NoError(t, err)
	for !s.Finished() {
		s.Update()
	}
	returns, err := s.Learned().Returns(100, 1_000_000)
	require.NoError(t, err)
	mean, _ := moments(returns)
	require.Greater(t, mean, 475.0, "from which Gymnasium calls it solved; twice the steps reach 500")
}
