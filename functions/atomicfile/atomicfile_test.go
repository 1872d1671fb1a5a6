package atomicfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, content := range []string{"first", "second, and longer", "3"} {
		require.NoError(t, Replace(path, []byte(content)))
		have, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(have))
		require.NoFileExists(t, path+".tmp")
	}
	require.ErrorContains(t, Replace(filepath.Join(t.TempDir(), "gone", "x"), nil), "gone")
}
