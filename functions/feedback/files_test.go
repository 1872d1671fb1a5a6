package feedback

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
)

// obstruct puts a non-empty folder in the place of a file: it can be neither read, written nor replaced.
func obstruct(t *testing.T, path string) (clear func()) {
	t.Helper()
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "x"), 0o700))
	return func() { require.NoError(t, os.RemoveAll(path)) }
}

// Learned state that cannot be read keeps the service from starting; if it cannot be saved, the status says so until it can.
func TestLearnedStateThatCannotBeReadOrSaved(t *testing.T) {
	f := open(t)
	other := &learned{path: filepath.Join(t.TempDir(), learnedFile)}
	obstruct(t, other.path)
	require.ErrorContains(t, other.open(&jot{}), "reading the learned state: ")
	require.DirExists(t, other.path)
	other.path = filepath.Join(t.TempDir(), learnedFile)
	require.NoError(t, syscall.Mkfifo(other.path, 0o600))
	require.ErrorContains(t, other.open(&jot{}), "must be a file", "a pipe does not hold up the start")
	path := f.learned.path
	for _, at := range []string{path + ".tmp", path} {
		clear := obstruct(t, at)
		require.ErrorContains(t, f.learned.save(), path)
		require.Contains(t, f.learned.status().Problem, path)
		clear()
		require.NoError(t, f.learned.save(), "the next try")
		require.FileExists(t, path)
		require.Empty(t, f.learned.status().Problem, "it is over")
	}
	require.NoError(t, f.learned.close())
	require.NoError(t, os.Remove(path))
	require.NoError(t, f.learned.save())
	require.NoFileExists(t, path, "it may be another process's")
}

// An unreadable decision log is an error, and not an empty log, which would be truncated.
func TestADecisionLogThatCannotBeReadIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), decisionFile)
	require.NoError(t, os.WriteFile(path, []byte("one\n"), 0o600))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = wholeLines(f)
	require.Error(t, err)
	require.NoError(t, f.Close())
	_, err = wholeLines(f)
	require.Error(t, err)
}

// A partial line at the end, as a crash leaves it, is cut off; a file without any whole line is truncated to nothing.
func TestTheDecisionLogGoesOnAfterWholeLines(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "half a line": 0, "one\n": 4, "one\nhalf a line": 4, "one\ntwo\n": 8, "\n": 1} {
		l := &decisionLog{dir: t.TempDir()}
		path := filepath.Join(l.dir, decisionFile)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, l.open())
		require.Equal(t, want, l.size, "%q", text)
		_, err := l.file.WriteString("new\n")
		require.NoError(t, err)
		require.NoError(t, l.file.Close())
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text[:want]+"new\n", string(raw))
	}
}

func TestADecisionLogThatCannotBeOpenedIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	obstruct(t, filepath.Join(dir, "there", decisionFile))
	for _, at := range []string{file, filepath.Join(file, "below"), filepath.Join(dir, "there")} {
		l, err := openDecisionLog(at, 1, 1, &jot{})
		require.ErrorContains(t, err, "Offload.DecisionLog", at)
		require.Nil(t, l)
	}
	l, err := openDecisionLog("", 1, 1, &jot{})
	require.NoError(t, err)
	require.Nil(t, l)
	require.NoError(t, l.close(t.Context()))
	require.Nil(t, l.status())
}

// entries is a ring that has an entry for each decision, or none.
type entries bool

func (e entries) Get(id uint64) (decision.Entry, bool) { return decision.Entry{ID: id}, bool(e) }

// What is not logged counts as dropped: a decision that has left the ring, one for which the queue has no room, and one after the close.
func TestWhatIsNotLoggedIsCounted(t *testing.T) {
	l := &decisionLog{share: 1, queue: make(chan decision.Entry, 1)}
	l.offer(entries(true), 1)
	require.Zero(t, l.dropped.Load())
	l.offer(entries(false), 2)
	require.EqualValues(t, 1, l.dropped.Load())
	l.offer(entries(true), 3)
	require.EqualValues(t, 2, l.dropped.Load())
	<-l.queue
	l.closed = true
	l.offer(entries(true), 4)
	require.EqualValues(t, 3, l.dropped.Load())
	require.Empty(t, l.queue)
}

// A log that cannot be rotated drops and counts, and continues once it can be.
func TestADecisionLogThatCannotBeRotatedDrops(t *testing.T) {
	l := &decisionLog{dir: t.TempDir(), limit: 1}
	require.NoError(t, l.open())
	e := decision.Entry{ID: 1, EventID: "e", Policy: "edge", Decision: decision.Decision{Propensity: 1}}
	require.NoError(t, l.write(&e))
	size := l.size
	require.Error(t, l.write(&decision.Entry{EventID: strings.Repeat("e", decision.MaxRecord)}), "no line is that long")
	require.Equal(t, size, l.size)
	clear := obstruct(t, filepath.Join(l.dir, oldDecisionFile))
	require.Error(t, l.write(&e))
	clear()
	require.NoError(t, l.write(&e))
	require.Equal(t, size, l.size, "in a new file")
	old, err := os.ReadFile(filepath.Join(l.dir, oldDecisionFile))
	require.NoError(t, err)
	require.Len(t, old, int(size))
	require.NoError(t, l.file.Close())
}

// A close that may not wait reports how many records are lost.
func TestADecisionLogThatIsNotWrittenInTimeIsNamed(t *testing.T) {
	l := &decisionLog{queue: make(chan decision.Entry, 2), ended: make(chan struct{})}
	l.queue <- decision.Entry{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.close(ctx)
	require.ErrorContains(t, err, "with 1 records left")
	require.ErrorIs(t, err, context.Canceled)
	close(l.ended)
	require.NoError(t, l.close(t.Context()), "closing twice")
}

// A file larger than any that is written, and one that cannot be moved aside, are named in the log, and learning starts from zero.
func TestLearnedStateThatIsNotTaken(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		f, dir := open(t), t.TempDir()
		path, log := filepath.Join(dir, learnedFile), f.logger.(*jot)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, maxLearned+1))
		if stuck {
			obstruct(t, filepath.Join(dir, badLearnedFile))
		}
		require.NoError(t, f.OpenLearned(dir, time.Hour))
		require.Len(t, log.lines, 1)
		require.Contains(t, log.lines[0], fmt.Sprintf("has %d bytes, the maximum is %d", maxLearned+1, maxLearned))
		if stuck {
			require.Contains(t, log.lines[0], "file exists")
			require.FileExists(t, path)
		} else {
			require.NotContains(t, log.lines[0], "rename")
			require.NoFileExists(t, path)
		}
		_, err := readLearned(filepath.Join(dir, "none"))
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	path := filepath.Join(t.TempDir(), learnedFile)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, maxLearned))
	raw, err := readLearned(path)
	require.NoError(t, err)
	require.Len(t, raw, maxLearned)
}
