package host

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheMemoryLimitIsTheLeastOfAll(t *testing.T) {
	before := limitFiles
	t.Cleanup(func() { limitFiles = before })
	write := func(text string) {
		file := filepath.Join(t.TempDir(), "memory.max")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		limitFiles = []string{"/nonexistent", file}
	}
	limitFiles = nil
	machine := MemoryLimit()
	require.Positive(t, machine)
	for text, want := range map[string]int64{"max\n": machine, "1048576\n": 1 << 20, "9223372036854771712\n": machine, "": machine, "0": machine} {
		write(text)
		require.Equal(t, want, MemoryLimit(), "%q", text)
	}
	write("1048576")
	previous := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(previous) })
	debug.SetMemoryLimit(1 << 19)
	require.EqualValues(t, 1<<19, MemoryLimit())
}

// The memory of this process is a part of the available memory.
func TestResidentBytesAreWithinTheLimit(t *testing.T) {
	require.Greater(t, ResidentBytes(), int64(1<<20))
	require.Less(t, ResidentBytes(), MemoryLimit())
}
