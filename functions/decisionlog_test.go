package functions

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
)

// A disk that takes no records costs each of them, counted as dropped, and one line of the log; once it takes some again, the
// next failure is reported again.
func TestRecordsThatCannotBeWrittenAreCountedAndReportedOnce(t *testing.T) {
	var log jot
	l := &decisionLog{dir: t.TempDir(), limit: 1 << 20, log: &log}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	good, err := os.Create(filepath.Join(l.dir, decisionFile))
	require.NoError(t, err)
	defer good.Close() //nolint:errcheck // run closes what it wrote to last
	life := func(f *os.File, records int) {
		l.file, l.size = f, 0
		l.queue, l.ended = make(chan decision.Entry, records), make(chan struct{})
		for range records {
			l.queue <- decision.Entry{ID: 1, EventID: "e", Policy: "edge", Decision: decision.Decision{Propensity: 1}}
		}
		close(l.queue)
		l.run()
		<-l.ended
	}
	life(full, 5)
	require.Equal(t, [2]uint64{0, 5}, [2]uint64{l.written.Load(), l.dropped.Load()})
	require.Len(t, log.lines, 1)
	require.Contains(t, log.lines[0], "no space left on device")
	life(good, 3)
	require.Equal(t, [2]uint64{3, 5}, [2]uint64{l.written.Load(), l.dropped.Load()})
	require.Len(t, log.lines, 1, "nothing is wrong")
	n := 0
	for range records(t, l.dir, decisionFile) {
		n++
	}
	require.Equal(t, 3, n)
	full, err = os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	life(full, 2)
	require.Equal(t, [2]uint64{3, 7}, [2]uint64{l.written.Load(), l.dropped.Load()})
	require.Len(t, log.lines, 2, "and begun again")
}
