package spool

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The spool reports the size of its files as bytes on disk, also if the history has another size than configured now.
func TestTheBytesOnDiskAreThoseOfTheFiles(t *testing.T) {
	dir := t.TempDir()
	files := func() (sum int64) {
		for name, size := range listing(t, dir) {
			if name != "lock" && name != quarantineDir {
				sum += size
			}
		}
		return sum
	}
	for _, history := range []int{128, 64, 256, 256} {
		s, err := Open(dir, quiet(history), small(16<<20, 64<<10, 0))
		require.NoError(t, err)
		absence(t, s, 2_000, rand.New(rand.NewPCG(uint64(history), 1)))
		require.NoError(t, s.Checkpoint())
		disk := s.Stats().DiskBytes
		require.Equal(t, files(), disk, "history of %d", history)
		require.NoError(t, s.Close())
	}
}

// The tools return the error that ends them: that of the function that takes the records, or of an unreadable segment.
func TestToolsEndWithTheErrorOfTheirCaller(t *testing.T) {
	dir := worn(t)
	enough := errors.New("enough")
	n := 0
	_, err := Export(dir, func(Record) error { n++; return enough })
	require.ErrorIs(t, err, enough)
	require.Equal(t, 1, n)
	for at := 1; at <= 4; at++ { // each of two segments is opened for its header, and again for its records
		r, err := Export(dir, func(Record) error { return nil }, WithFS(&unopened{FS: osFS{}, at: at, err: enough}))
		if at%2 == 1 {
			require.NoError(t, err)
			require.Contains(t, strings.Join(r.Notes, "\n"), "enough", "the others are read all the same")
		} else {
			require.ErrorIs(t, err, enough)
		}
	}
}

// unopened is a file system on which one opening of a segment fails.
type unopened struct {
	FS
	at, n int
	err   error
}

func (u *unopened) Open(name string, write bool) (File, error) {
	if strings.HasSuffix(name, ".seg") {
		if u.n++; u.n == u.at {
			return nil, u.err
		}
	}
	return u.FS.Open(name, write)
}
