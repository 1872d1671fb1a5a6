package desk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/models"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// bus and cloud are the peers of a desk.
type bench struct {
	*Desk
	mu        sync.Mutex
	down      error
	published []string
	confirmed []seal.ConfirmedResult
	messages  int
}

func open(t *testing.T, dir string) *bench {
	t.Helper()
	b := &bench{}
	var err error
	b.Desk, err = Open(Deps{Dir: dir, Log: quiet{}, Publish: func(a *answer.Answer) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.down == nil {
			b.published = append(b.published, a.EventID)
		}
		return b.down
	}, Confirm: func(c []seal.ConfirmedResult) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.confirmed = append(b.confirmed, c...)
		b.messages++
	}})
	require.NoError(t, err)
	return b
}

func (b *bench) end(t *testing.T) {
	t.Helper()
	require.NoError(t, b.Close(context.Background()))
}

func result(t *testing.T, event string) seal.Result {
	t.Helper()
	a := answer.Of(&task.Task{EventID: event, Device: "d", Profile: "p", Source: "s", Origin: 1, Of: 1, Class: &task.Class{Name: "c"}}, 2, answer.Cloud,
		models.Answer{Model: "m", Version: "1", Resource: "r", Label: "worn", Confidence: 0.5})
	payload, err := a.Encode()
	require.NoError(t, err)
	return seal.Result{ID: "id-" + event, Node: "n", EventID: event, OK: true, ContentType: answer.ContentType, Payload: payload}
}

// An answer is published once, and confirmed each time it arrives, over restarts.
func TestAnAnswerIsPublishedOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		for range 3 {
			b.Take(result(t, "e-1"))
		}
		b.Take(result(t, "e-2"))
		synctest.Wait()
		require.Equal(t, []string{"e-1", "e-2"}, b.published)
		require.Len(t, b.confirmed, 4)
		require.Equal(t, Counts{Published: 2, Repeated: 2}, b.Counts())
		b.end(t)
	})
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.Take(result(t, "e-2"))
		b.Take(result(t, "e-3"))
		synctest.Wait()
		require.Equal(t, []string{"e-3"}, b.published)
		require.Len(t, b.confirmed, 2)
		b.end(t)
	})
}

// An answer that can never be published is confirmed with the reason; a result without an answer is counted.
func TestWhatCannotBePublishedIsRefused(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		other, text, local := result(t, "e-1"), result(t, "e-2"), result(t, "e-3")
		other.EventID = "e-9"
		text.Payload = []byte("no JSON")
		local.Payload = []byte(strings.Replace(string(local.Payload), `"computedBy":"cloud"`, `"computedBy":"local"`, 1))
		for _, r := range []seal.Result{
			other, text, local, {ID: "id-4", EventID: "e-4", Error: "no such reading"}, {ID: "id-5", EventID: "e-5", OK: true, ContentType: "application/json", Payload: []byte("{}")},
		} {
			b.Take(r)
		}
		synctest.Wait()
		require.Empty(t, b.published)
		require.Equal(t, Counts{Refused: 3, Failed: 1, Outcomes: 1}, b.Counts())
		var refused []string
		for _, c := range b.confirmed {
			refused = append(refused, c.ID+" "+c.Refused[:min(len(c.Refused), 30)])
		}
		require.Equal(t, []string{
			"id-e-1 the answer and its result are ", "id-e-2 reading an answer: invalid cha", "id-e-3 computedBy is not cloud", "id-4 ", "id-5 ",
		}, refused)
		b.end(t)
	})
}

// Without a bus the cloud would send an answer in vain for hours: it is confirmed, and counted.
func TestWithoutABusAnswersAreConfirmed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.deps.Publish = nil
		b.Take(result(t, "e-1"))
		b.Take(result(t, "e-1"))
		synctest.Wait()
		require.Len(t, b.confirmed, 2)
		require.Equal(t, Counts{NoBus: 2}, b.Counts())
		b.end(t)
	})
}

// No result is confirmed whose answer is not on the bus. A bus that returns within the patience receives the answer; after that the cloud sends it
// again.
func TestNothingIsConfirmedThatIsNotPublished(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.down = errors.New("no bus")
		b.Take(result(t, "e-1"))
		time.Sleep(patience / 2)
		synctest.Wait()
		require.Empty(t, b.confirmed)
		b.mu.Lock()
		b.down = nil
		b.mu.Unlock()
		time.Sleep(lastPause)
		synctest.Wait()
		require.Len(t, b.confirmed, 1)
		b.mu.Lock()
		b.down = errors.New("no bus")
		b.mu.Unlock()
		b.Take(result(t, "e-2"))
		b.Take(result(t, "e-1"))
		time.Sleep(patience + 2*lastPause)
		synctest.Wait()
		require.Equal(t, Counts{Published: 1, Repeated: 1, Bus: 1}, b.Counts())
		require.Equal(t, "id-e-1", b.confirmed[1].ID, "an answer published before is confirmed all the same")
		b.Take(result(t, "e-3"))
		synctest.Wait()
		began := time.Now()
		b.end(t)
		require.Zero(t, time.Since(began), "a stop waits for no bus")
		require.Equal(t, []string{"e-1"}, b.published)
	})
}

// The queue is bounded in number and bytes; further results are dropped, counted, and confirmed only when they arrive again.
func TestTheQueueIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.down = errors.New("no bus")
		for n := range maxQueue + 10 {
			b.Take(result(t, fmt.Sprint("e-", n)))
		}
		require.GreaterOrEqual(t, b.Counts().Full, int64(9))
		b.end(t)
	})
	dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.down = errors.New("no bus")
		for range 20 {
			b.Take(seal.Result{ID: "x", OK: true, ContentType: answer.ContentType, Payload: make([]byte, 1<<20)})
		}
		synctest.Wait()
		require.Equal(t, int64(20), b.Counts().Full+b.Counts().Refused)
		b.Take(result(t, "e-1"))
		synctest.Wait()
		require.Zero(t, b.bytes.Load())
		b.end(t)
	})
}

// Results that arrive together are confirmed together.
func TestConfirmationsAreGathered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, dir)
		b.mu.Lock()
		for n := range 100 {
			b.Take(result(t, fmt.Sprint("e-", n)))
		}
		b.mu.Unlock()
		synctest.Wait()
		require.Len(t, b.confirmed, 100)
		require.Less(t, b.messages, 10)
		b.end(t)
	})
}

// The memory of published answers is bounded, keeps the latest, and survives kills in the middle of a write.
func TestTheLatestAnswersAreRemembered(t *testing.T) {
	dir := t.TempDir()
	const most = 10
	s, err := openSeen(dir, most)
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is written before the first answer")
	var ids []uuid.UUID
	for n := range 57 {
		id := uuid.NewSHA1(uuid.NameSpaceOID, []byte{byte(n)})
		ids = append(ids, id)
		require.False(t, s.has(id))
		require.NoError(t, s.add(id))
		if n%7 == 3 { // a kill that left half of an entry
			require.NoError(t, s.close())
			f, err := os.OpenFile(s.path(s.name), os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString("half of it")
			require.NoError(t, err)
			require.NoError(t, f.Close())
			s, err = openSeen(dir, most)
			require.NoError(t, err)
		}
		for back := range min(n+1, most) {
			require.True(t, s.has(ids[n-back]), "%d of %d", n-back, n)
		}
		require.LessOrEqual(t, len(s.young)+len(s.old), 2*most)
	}
	require.False(t, s.has(ids[0]))
	require.NoError(t, s.close())
	files, err := filepath.Glob(filepath.Join(dir, "answers-*"))
	require.NoError(t, err)
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(most*entrySize))
	}
}

// After a restart at any moment, the latest answers are known and stay known.
func TestARestartForgetsNoLateAnswer(t *testing.T) {
	const most = 5
	for restart := 1; restart <= 5*most; restart++ {
		dir := t.TempDir()
		s, err := openSeen(dir, most)
		require.NoError(t, err)
		var ids []uuid.UUID
		for n := range 6 * most {
			if n == restart {
				require.NoError(t, s.close())
				s, err = openSeen(dir, most)
				require.NoError(t, err)
			}
			ids = append(ids, uuid.New())
			require.NoError(t, s.add(ids[n]))
			for back := range min(n+1, most) {
				require.True(t, s.has(ids[n-back]), "restarted after %d: %d of %d", restart, n-back, n)
			}
		}
		require.NoError(t, s.close())
	}
}

// A file damaged by a disk is a file without some entries.
func TestDamagedEntriesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	s, err := openSeen(dir, 10)
	require.NoError(t, err)
	a, b := uuid.New(), uuid.New()
	require.NoError(t, errors.Join(s.add(a), s.add(b), s.close()))
	raw, err := os.ReadFile(s.path(0))
	require.NoError(t, err)
	raw[3] ^= 1
	require.NoError(t, os.WriteFile(s.path(0), raw, 0o600))
	s, err = openSeen(dir, 10)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, []bool{s.has(a), s.has(b)})
	require.NoError(t, os.WriteFile(s.path(0), make([]byte, 1000), 0o600))
	s, err = openSeen(dir, 10)
	require.NoError(t, err)
	require.False(t, s.has(b))
}
