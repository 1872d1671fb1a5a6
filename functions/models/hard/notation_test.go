package hard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesAreRead(t *testing.T) {
	for _, text := range []string{"", "  ", "none"} {
		r, err := ParseRule(text)
		require.NoError(t, err)
		require.Nil(t, r)
	}
	r, err := ParseRule(" margin  threshold=0.3 hourly=60 daily=500")
	require.NoError(t, err)
	require.Equal(t, &Rule{Filter: Config{Filter: Margin, Threshold: 0.3, Box: 0.5, Width: 0.2, Temperature: 1}, Hourly: 60, Daily: 500, Mode: AfterRun}, r)
	r, err = ParseRule("energy share=0.1 temperature=2 seed=7 mode=judge")
	require.NoError(t, err)
	require.Equal(t, &Rule{Filter: Config{Filter: Energy, Threshold: -5, Box: 0.5, Width: 0.2, Temperature: 2, Share: 0.1, Seed: 7}, Mode: BeforeRun}, r)
}

// Each mistake is named, and none hides another.
func TestMistakesInRulesAreNamed(t *testing.T) {
	for text, want := range map[string][]string{
		"margins":                              {"margins"},
		"margin 0.2":                           {"name=value"},
		"margin threshold=x":                   {"must be a number"},
		"margin threshold=0.1 threshold=0.2":   {"twice"},
		"margin limit=1":                       {"unknown parameter"},
		"margin threshold=7 hourly=-1 mode=no": {"Threshold", "hourly", "mode"},
		"margin daily=1.5":                     {"daily"},
		"edge share=0.1":                       {"Share"},
	} {
		_, err := ParseRule(text)
		for _, w := range want {
			require.ErrorContains(t, err, w, text)
		}
	}
}
