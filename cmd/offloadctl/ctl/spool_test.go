package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/keys"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// fill creates a closed spool with the tasks.
func fill(t *testing.T, tasks []*task.Task, opts ...spool.Option) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, len(opts) > 0, opts...)
	var recs []spool.Record
	for _, one := range tasks {
		recs = append(recs, spool.Record{
			Lane: one.Class.Priority, Class: one.Class.Name, Score: 0.5, Time: 1795375000_000000000, Expires: 1795378600_000000000,
			Payload: one.Append(nil),
		})
	}
	recs = append(recs, spool.Record{Lane: 1, Class: "odd", Time: 1795375000_000000000, Payload: []byte{0x48, 1}})
	done := make(chan error, 1)
	s.Append(recs, func(err error) { done <- err })
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	return dir
}

func open(t *testing.T, dir string, encrypt bool, opts ...spool.Option) *spool.Spool {
	t.Helper()
	cfg := spool.DefaultConfig()
	cfg.QuotaMiB, cfg.Encrypt = 16, encrypt
	s, err := spool.Open(dir, cfg, opts...)
	require.NoError(t, err)
	return s
}

func someTasks() []*task.Task {
	base := task.Task{
		EventID: "e1", Device: "pump", Profile: "Pump", Source: "Burst", Origin: 1, Received: 2, Of: 1, Class: &task.Class{Name: "vibration", Priority: 6},
		Encoding: task.JSON, Data: []byte(`{"id":"e1","readings":[]}`), Complexity: 40, Deadline: 2 * time.Second, Score: 0.5, Policy: "weighted",
	}
	frame, chunk, picture := base, base, base
	frame.EventID, frame.Of, frame.Data = "e2", 2, []byte(`{"id":"e2","value":""}`)
	frame.Holes = []task.Hole{{Resource: "Wave", At: 20, Length: 3, Encoding: task.Text}}
	chunk.EventID, chunk.Of, chunk.Chunk, chunk.Resource, chunk.Encoding, chunk.Type = "e2", 2, 1, "Wave", task.Text, task.Float64Array
	chunk.Data, chunk.Count = []byte("1,2,3"), 3
	picture.Class, picture.Encoding, picture.Data, picture.EventID = &task.Class{Name: "camera", Priority: 3}, task.CBOR, []byte{0xa0}, "e3"
	return []*task.Task{&base, &frame, &chunk, &picture}
}

func TestSpoolInspect(t *testing.T) {
	dir := fill(t, someTasks())
	r := call{}.run("spool", "inspect", dir)
	require.Equal(t, exitFine, r.code, r.err)
	for _, want := range []string{"epoch ", "held     5 records", "classes  vibration 3, camera 1, odd 1", "SEGMENT", "6-"} {
		require.Contains(t, r.out, want)
	}
	require.NotContains(t, r.out, "!")
	r = call{}.run("spool", "inspect", "-json", dir)
	var report spool.Report
	require.NoError(t, json.Unmarshal([]byte(r.out), &report))
	require.Equal(t, 5, report.Held)

	r = call{}.run("spool", "inspect", t.TempDir())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "no spool found")
}

// A damaged record is reported and quarantined, and affects no other record.
func TestSpoolVerifyAndRepair(t *testing.T) {
	dir := fill(t, someTasks())
	r := call{}.run("spool", "verify", dir)
	require.Equal(t, exitFine, r.code, r.out+r.err)
	require.Contains(t, r.out, "whole; 5 records")

	flip(t, dir, `"value"`) // in the frame of e2, record 2
	r = call{}.run("spool", "verify", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `(record 2 of class "vibration")`)
	require.Contains(t, r.out, "offloadctl spool repair "+dir)
	require.Empty(t, r.err)
	r = call{}.run("spool", "verify", "-json", dir)
	require.Equal(t, exitFailed, r.code)
	var report spool.Report
	require.NoError(t, json.Unmarshal([]byte(r.out), &report))
	require.Len(t, report.Damages, 1)

	r = call{}.run("spool", "repair", dir)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, `record 2 of class "vibration" is lost, its bytes are in quarantine/`)
	require.Contains(t, r.out, "4 records are held")
	require.Equal(t, exitFine, call{}.run("spool", "verify", dir).code)
	r = call{}.run("spool", "repair", dir)
	require.Contains(t, r.out, "no damage found")
	require.Contains(t, call{}.run("spool", "repair", "-json", dir).out, `"held": 4`)
	require.Contains(t, call{}.run("spool", "inspect", dir).out, "aside    in "+dir+"/quarantine, damaged places found before: 1")
}

// flip changes one byte of a segment at the text.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.seg")
	require.NoError(t, err)
	for _, name := range files {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		if i := bytes.Index(raw, []byte(text)); i >= 0 {
			raw[i] ^= 0x20
			require.NoError(t, os.WriteFile(name, raw, 0o600))
			return
		}
	}
	t.Fatalf("%q is in none of %v", text, files)
}

func TestSpoolExport(t *testing.T) {
	dir := fill(t, someTasks())
	r := call{}.run("spool", "export", dir)
	require.Equal(t, exitFailed, r.code, "one record is not a task, which is reported")
	require.Contains(t, r.err, "wrote 5 of 5 records; 1 have no readable task")
	golden.Require(t, "export.golden", r.out)
	require.Equal(t, 5, strings.Count(r.out, "\n"))

	r = call{}.run("spool", "export", "-class", "camera", dir)
	require.Equal(t, exitFine, r.code, r.err)
	require.Equal(t, 1, strings.Count(r.out, "\n"))

	s := open(t, dir, false)
	defer s.Close()
	require.EqualValues(t, 5, s.Stats().Held, "the records stay")
}

// After the worst damage (both copies of the state lost, a segment's header overwritten, garbage in the middle of another, indexes missing) an
// operator can still inspect the spool, export its remaining records, and use it again after one repair.
func TestSpoolInRuins(t *testing.T) {
	var tasks []*task.Task
	for n := range 200 {
		one := *someTasks()[n%4/3*3] // of the classes vibration and camera
		one.EventID, one.Of, one.Holes = fmt.Sprintf("e%d", n), 1, nil
		one.Encoding, one.Data = task.JSON, fmt.Appendf(nil, `{"id":"e%d","pad":"%s"}`, n, strings.Repeat("x", 100))
		tasks = append(tasks, &one)
	}
	dir := fill(t, tasks)
	for name, harm := range map[string]func(b []byte) []byte{
		"state-?": func([]byte) []byte { return []byte("rubbish") },
		"*.idx":   func(b []byte) []byte { return b[:len(b)/2] },
		"3-*.seg": func(b []byte) []byte { clear(b[:1024]); return b }, // both copies of the header
		"6-*.seg": func(b []byte) []byte { copy(b[len(b)/2:], strings.Repeat("garbage!", 60)); return b },
	} {
		files, err := filepath.Glob(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NotEmpty(t, files, name)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, harm(raw), 0o600))
		}
	}
	r := call{}.run("spool", "inspect", dir)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, "neither copy of the segment's header is intact")
	r = call{}.run("spool", "verify", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "offloadctl spool repair "+dir)
	before := call{}.run("spool", "export", "-class", "vibration", dir).out
	require.Greater(t, strings.Count(before, "\n"), 140, "the garbage covers three records of 150")

	r = call{}.run("spool", "repair", dir)
	require.Equal(t, exitFine, r.code, r.out+r.err)
	require.Contains(t, r.out, "quarantine/")
	require.Equal(t, exitFine, call{}.run("spool", "verify", dir).code)
	require.Equal(t, before, call{}.run("spool", "export", "-class", "vibration", dir).out, "a repair loses nothing that could be read before it")
	s := open(t, dir, false)
	defer s.Close()
	require.EqualValues(t, strings.Count(before, "\n")+1, s.Stats().Held, "and the one of class odd")
}

// A directory in use by the service is not touched, and the error has advice.
func TestSpoolInUse(t *testing.T) {
	dir := fill(t, someTasks())
	s := open(t, dir, false)
	defer s.Close()
	for _, verb := range []string{"verify", "repair", "export"} {
		r := call{}.run("spool", verb, dir)
		require.Equal(t, exitFailed, r.code, verb)
		require.Empty(t, r.out, verb)
		require.Contains(t, r.err, "the spool is in use, most likely by a running app-offload; stop it first", verb)
	}
	require.Contains(t, call{}.run("spool", "inspect", dir).out, "in use by a process")
	require.Equal(t, exitFine, call{}.run("spool", "verify", "-live", dir).code)
	require.Equal(t, exitFine, call{}.run("spool", "export", "-live", "-class", "vibration", dir).code)
}

func TestSpoolEncrypted(t *testing.T) {
	keyDir := t.TempDir()
	for id := range 2 {
		key := bytes.Repeat([]byte{byte(id)}, 32)
		require.NoError(t, os.WriteFile(filepath.Join(keyDir, fmt.Sprintf("k%d", id)), key, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(keyDir, "current"), []byte("k1"), 0o600))
	files, err := keys.LoadFiles(keyDir, func(string) {})
	require.NoError(t, err)
	dir := fill(t, someTasks(), spool.WithKeys(files))

	r := call{}.run("spool", "verify", dir)
	require.Equal(t, exitFailed, r.code, "what was not checked is not called whole")
	require.Contains(t, r.out, "5 records are encrypted and were not checked")
	r = call{}.run("spool", "verify", "-keys", keyDir, dir)
	require.Equal(t, exitFine, r.code, r.out)
	require.NoError(t, os.WriteFile(filepath.Join(keyDir, "broken.key"), []byte("no key"), 0o600))
	r = call{}.run("spool", "verify", "-keys", keyDir, dir)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.err, "broken.key", "a key that cannot be read is reported once, and the others serve")
	r = call{}.run("spool", "export", "-keys", keyDir, "-class", "vibration", dir)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, `"data":{"id":"e1","readings":[]}`)

	// A key does not open records of another key: the number of unwritten records is reported.
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "k0"), bytes.Repeat([]byte{0}, 32), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(other, "current"), []byte("k0"), 0o600))
	r = call{}.run("spool", "export", "-keys", other, dir)
	require.Equal(t, exitFailed, r.code, r.err)
	require.Empty(t, r.out)
	require.Contains(t, r.err, "wrote 0 of 5 records; 0 have no readable task, 5 are encrypted with a missing key")

	r = call{}.run("spool", "export", "-keys", t.TempDir(), dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "reading the keys")
}
