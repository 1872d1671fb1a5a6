package keys

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzKey: any content of a key file is a key of a usable length or an error that does not contain it. Contents that occur in the fixed message of
// that error are skipped.
func FuzzKey(f *testing.F) {
	f.Add([]byte(strings.Repeat("01", 32) + "\n"))
	f.Add([]byte("AQEBAQEBAQEBAQEBAQEBAQ=="))
	f.Add([]byte("sixteen bytes ab"))
	f.Add([]byte{})
	f.Add([]byte(" bytes ")) // part of the message
	_, fixed := parse([]byte("-"))
	f.Fuzz(func(t *testing.T, content []byte) {
		key, err := parse(content)
		if err == nil {
			require.True(t, fits(key))
		} else if text := string(content); len(text) > 6 && !strings.Contains(fixed.Error(), text) {
			require.NotContains(t, err.Error(), text)
		}
	})
}
