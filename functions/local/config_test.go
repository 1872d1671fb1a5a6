package local

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultIsValid(t *testing.T) { require.NoError(t, DefaultConfig().Validate()) }

func TestValidateNamesEveryKey(t *testing.T) {
	err := Config{
		Workers: -1, QueueTasks: 0, Operators: "nonsense", MaxKeys: 0, KeyTTL: "x", SampleMiB: 0,
		MaxAhead: "-1s", Retries: -1, RetryWait: "2h", PendingResults: -1,
	}.Validate()
	for _, key := range []string{
		"Workers", "QueueTasks", "Operators", "MaxKeys", "KeyTTL", "SampleMiB", "MaxAhead", "Retries", "RetryWait", "PendingResults",
	} {
		require.ErrorContains(t, err, "Local."+key)
	}
}

func TestABadClassIsNamed(t *testing.T) {
	_, err := New(DefaultConfig(), class("summary window=x"), &recorder{}, nil)
	require.ErrorContains(t, err, `class "default": operator "summary", parameter window = "x"`)
	cfg := DefaultConfig()
	cfg.Operators = "nonsense"
	_, err = New(cfg, class(""), &recorder{}, nil)
	require.Equal(t, 1, strings.Count(err.Error(), "is unknown"), "that of all classes is one problem: %v", err)
}

// However many workers share a limit, each has at least one.
func TestEachWorkerHasAShare(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Workers, cfg.QueueTasks, cfg.PendingResults = 4, 3, 3
	l, err := cfg.limits()
	require.NoError(t, err)
	require.Equal(t, [2]int{1, 1}, [2]int{l.queue, l.pending})
	cfg.PendingResults = 0
	l, err = cfg.limits()
	require.NoError(t, err)
	require.Zero(t, l.pending)
}
