package feedback

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
)

// A disk that rejects records costs each of them, counted as dropped, and one line of the log; once it accepts some again, the next failure is
// reported again.
func TestRecordsThatCannotBeWrittenAreCountedAndReportedOnce(t *testing.T) {
	var log jot
	l := &decisionLog{dir: t.TempDir(), limit: 1 << 20, log: &log}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	good, err := os.Create(filepath.Join(l.dir, decisionFile))
	require.NoError(t, err)
	defer good.Close() //nolint:errcheck // run closes the last file
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

func TestDecisionLogIsBoundedAndMakesNobodyWait(t *testing.T) {
	dir := t.TempDir()
	var log jot
	l, err := openDecisionLog(dir, 2, 1, &log)
	require.NoError(t, err)
	ring := decision.NewRing(8, time.Now())
	id := ring.Add(&decision.Entry{EventID: "e", Policy: "edge", Decision: decision.Decision{Propensity: 1}})
	const offers = 5000
	for n := range offers {
		l.offer(ring, id)
		if n%500 == 0 { // let the writer come along, so that enough is written to rotate
			require.Eventually(t, func() bool { return len(l.queue) == 0 }, time.Minute, time.Millisecond)
		}
	}
	require.NoError(t, l.close(t.Context()))
	l.offer(ring, id) // after the end
	got := l.status()
	require.EqualValues(t, offers+1, got.Written+got.Dropped, "everything is accounted for")
	for _, file := range []string{decisionFile, oldDecisionFile} {
		info, err := os.Stat(filepath.Join(dir, file))
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1<<20))
		for range records(t, dir, file) { // all of it can be read
		}
	}
	require.Empty(t, log.lines)

	var off *decisionLog
	off.offer(ring, id)
	require.NoError(t, off.close(t.Context()))
	_, err = openDecisionLog(filepath.Join(dir, decisionFile, "below a file"), 2, 1, &log)
	require.ErrorContains(t, err, "Offload.DecisionLog")
}

func records(t *testing.T, dir, file string) func(func(*decision.Record) bool) {
	return func(yield func(*decision.Record) bool) {
		f, err := os.Open(filepath.Join(dir, file))
		require.NoError(t, err)
		defer f.Close() //nolint:errcheck // it was only read
		for r, err := range decision.ReadRecords(f) {
			require.NoError(t, err)
			if !yield(r) {
				return
			}
		}
	}
}
