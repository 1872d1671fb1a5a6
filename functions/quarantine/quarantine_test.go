package quarantine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
)

// usual are the default bounds.
func usual() Bounds { return Bounds{Entries: 100, KiB: 1024, DirMiB: 16} }

// A device that sends invalid payloads is reported once for each reason, and not with each message.
func TestQuarantineNotifiesOncePerReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := New(usual())
		require.NoError(t, err)
		var noticed []string
		q.OnNotice(func(r Rejected) { noticed = append(noticed, r.Reason+" "+r.Detail) })
		for range 50 {
			q.Add("topic", "", nil, parse.Reject(parse.ReasonTooDeep, "deep"))
			q.Add("topic", "", nil, parse.Reject(parse.ReasonTooLarge, "large"))
		}
		require.Equal(t, []string{parse.ReasonTooDeep + " deep", parse.ReasonTooLarge + " large"}, noticed)
		time.Sleep(noticeEvery)
		q.Add("topic", "", nil, parse.Reject(parse.ReasonTooDeep, "still"))
		require.Equal(t, parse.ReasonTooDeep+" still", noticed[len(noticed)-1])
	})
}

func TestQuarantineKeepsTheLatest(t *testing.T) {
	cfg := usual()
	cfg.Entries, cfg.KiB = 3, 1
	q, err := New(cfg)
	require.NoError(t, err)
	payload := []byte("first")
	q.Add("topic", parse.ContentTypeJSON, payload, parse.Reject(parse.ReasonTooDeep, "at byte 5"))
	payload[0] = 'X' // the quarantine has its own copy
	q.Add("topic", "", []byte("second"), errors.New("anything"))
	list := q.List()
	require.Equal(t, []string{"second", "first"}, []string{string(list[0].Payload), string(list[1].Payload)})
	require.Equal(t, []string{parse.ReasonMalformed, "anything"}, []string{list[0].Reason, list[0].Detail})
	require.Equal(t, []string{parse.ReasonTooDeep, "at byte 5"}, []string{list[1].Reason, list[1].Detail})

	for range 5 {
		q.Add("topic", "", []byte("more"), parse.Reject(parse.ReasonTooDeep, ""))
	}
	require.Len(t, q.List(), 3, "no more entries than configured")
	require.Equal(t, uint64(7), q.List()[0].ID)

	q.Add("topic", "", make([]byte, 5000), parse.Reject(parse.ReasonTooLarge, ""))
	require.Len(t, q.List(), 1, "no more bytes than configured")
	require.Equal(t, []int{5000, 1024}, []int{q.List()[0].Size, len(q.List()[0].Payload)})
	require.Equal(t, map[string]uint64{parse.ReasonTooDeep: 6, parse.ReasonMalformed: 1, parse.ReasonTooLarge: 1}, q.Counts())
	skipped := parse.Reject(parse.ReasonTooLarge, "")
	skipped.Size = 1 << 30
	q.Add("topic", "", nil, skipped)
	require.Equal(t, 1<<30, q.List()[0].Size, "of a message that was not even read")
	require.NoError(t, q.Close())
}

func TestQuarantineWithoutEntriesCounts(t *testing.T) {
	cfg := usual()
	cfg.Entries = 0
	q, err := New(cfg)
	require.NoError(t, err)
	q.Add("", "", nil, parse.Reject(parse.ReasonTooDeep, ""))
	require.Empty(t, q.List())
	require.Len(t, q.Counts(), 1)
	require.Empty(t, q.List())

	cfg.Entries = 1
	q, err = New(cfg)
	require.NoError(t, err)
	q.Add("", "", nil, parse.Reject(parse.ReasonTooDeep, "1"))
	q.Add("", "", nil, parse.Reject(parse.ReasonTooDeep, "2"))
	require.Len(t, q.List(), 1)
	require.Equal(t, "2", q.List()[0].Detail)
	require.Zero(t, q.Unwritten(), "there is no folder")

	cfg.Entries, cfg.KiB = 3, 1
	q, err = New(cfg)
	require.NoError(t, err)
	for range 20 {
		q.Add("", "", make([]byte, 300), parse.Reject(parse.ReasonTooDeep, ""))
	}
	require.Len(t, q.List(), 3, "what made room takes none")
}

func TestQuarantineFolderIsBounded(t *testing.T) {
	cfg := usual()
	cfg.Dir, cfg.DirMiB = filepath.Join(t.TempDir(), "a", "b"), 1
	for range 2 { // the second time finds the files of the first
		q, err := New(cfg)
		require.NoError(t, err)
		for range 20 {
			q.Add("topic", parse.ContentTypeCBOR, bytes.Repeat([]byte{7}, 100<<10), parse.Reject(parse.ReasonBadID, "x"))
		}
		require.NoError(t, q.Close())
		require.NoError(t, q.Close(), "twice is fine")
		require.Zero(t, q.Unwritten())
		q.Add("topic", "", nil, parse.Reject(parse.ReasonBadID, "after the end, and harmless"))
	}
	entries, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	total := int64(0)
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		total += info.Size()
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.LessOrEqual(t, total, int64(1<<20))
	require.Greater(t, total, int64(1<<19))

	body, err := os.ReadFile(filepath.Join(cfg.Dir, entries[0].Name()))
	require.NoError(t, err)
	var entry Rejected
	require.NoError(t, json.Unmarshal(body, &entry))
	require.Equal(t, 100<<10, len(entry.Payload))
	require.True(t, strings.HasSuffix(entries[0].Name(), "-bad_id.rejected.json"))
}

// The queue for a slow disk is limited in bytes, not only in number; one payload always fits.
func TestWhatWaitsForTheFolderIsBoundedInBytes(t *testing.T) {
	f := &folder{maxQueued: 1000, queue: make(chan Rejected, folderQueue)}
	f.offer(Rejected{Payload: make([]byte, 1500)})
	f.offer(Rejected{Payload: make([]byte, 1)})
	require.Len(t, f.queue, 1)
	require.Equal(t, uint64(1), f.unwritten.Load())
	f.dir = t.TempDir()
	f.maxBytes = 1 << 20
	f.try(<-f.queue)
	for range 10 {
		f.offer(Rejected{Payload: make([]byte, 300)})
	}
	require.Len(t, f.queue, 3)
	require.Equal(t, uint64(8), f.unwritten.Load())
}

func TestQuarantineSaysWhenTheFolderFails(t *testing.T) {
	cfg := usual()
	cfg.Dir = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(cfg.Dir, nil, 0o600))
	_, err := New(cfg)
	require.ErrorContains(t, err, "Intake.QuarantineDir")

	cfg.Dir = filepath.Join(t.TempDir(), "gone")
	q, err := New(cfg)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(cfg.Dir))
	q.Add("", "", nil, parse.Reject(parse.ReasonBadID, ""))
	require.Error(t, q.Close())
	require.Equal(t, uint64(1), q.Unwritten())
}
