package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/golden"
	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/credit"
	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/mqtt"
	"app-offload/functions/task"
)

// shown is a store with everything that a verb shows: records, an event with a missing chunk, gaps, gone records, a conflict, letters, and jobs with
// every outcome.
func shown(t *testing.T) (dsn, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "cloud.db")
	dsn = "sqlite:" + path
	db, err := store.Open(t.Context(), dsn, store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetModels(map[string]string{"default": "double"})
	batch := func(node string, floor uint64, records ...store.Record) *store.Batch {
		return &store.Batch{Node: node, Epoch: "e1", Floor: floor, Records: records}
	}
	record := func(seq uint64, event int) store.Record {
		one := *edgetest.Measured(uint64(event), "n1", 1)
		one.EventID = fmt.Sprint("event-", event)
		return store.Record{Sequence: seq, Task: &one}
	}
	lacking := record(5, 5)
	lacking.Task.Of, lacking.Task.Encoding = 2, task.Text
	binary := record(6, 6)
	binary.Task.Encoding, binary.Task.Data = task.CBOR, []byte{0xa0}
	commit := func(g store.Group) {
		_, err := db.Commit(t.Context(), &g)
		require.NoError(t, err)
	}
	commit(store.Group{Batches: []*store.Batch{batch("n1", 1, record(1, 1), record(2, 2), record(3, 3), record(4, 4), lacking, binary)}})
	commit(store.Group{Batches: []*store.Batch{batch("n1", 12, record(1, 1), record(2, 99), store.Record{Sequence: 11, Raw: []byte("rubbish\x1b"), Problem: "no such field"})}})
	commit(store.Group{Gone: []*store.Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{{First: 8, Last: 9, Fate: "expired"}, {First: 10, Last: 10, Fate: "full"}}}}})
	commit(store.Group{Letters: []*store.Letter{{Topic: "offload/v1/n1/batch/default", Node: "n1", Reason: "malformed", Detail: "bad\x1b[2J", Raw: []byte("{}")}}})
	commit(store.Group{Batches: []*store.Batch{batch("n2", 1, record(1, 1))}})
	jobs, err := db.TakeJobs(t.Context(), "w", "double", time.Hour, 3)
	require.NoError(t, err)
	require.Len(t, jobs, 3)
	for i, j := range jobs {
		_, err := db.FinishJobs(t.Context(), "w", []*store.Outcome{{Record: j.Record, Payload: []byte("{}"), Problem: []string{"", "no memory", ""}[i]}})
		require.NoError(t, err)
	}
	answers, err := db.TakeAnswers(t.Context(), time.Hour, 10)
	require.NoError(t, err)
	for _, a := range answers {
		if a.Record == jobs[2].Record {
			_, err := db.Commit(t.Context(), &store.Group{Confirmed: []*store.Confirmed{{Node: "n1", Results: []store.ConfirmedResult{{ID: a.ID, Refused: "too old"}}}}})
			require.NoError(t, err)
		}
	}
	return dsn, path
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`)

// The output of the verbs for one store.
func TestWhatVerbsShow(t *testing.T) {
	dsn, _ := shown(t)
	var all strings.Builder
	for _, args := range []string{
		"stats", "stats -json", "dead list", "jobs list", "events", "events -node n2", "events -after 1 -limit 2", "dead retry", "dead retry 2 3", "jobs retry 2 77", "jobs retry",
		"dead drop 77", "dead drop 1 77", "dead drop all", "dead list", "stats",
	} {
		out, errs := &buffer{}, &buffer{}
		args := strings.Fields(args)
		require.Zero(t, run(t.Context(), append(args, "-store", dsn), streams{out, errs}), errs.String())
		fmt.Fprintf(&all, "$ %s\n%s", strings.Join(args, " "), times.ReplaceAllString(out.String(), "TIME"))
	}
	golden.Require(t, "verbs.golden", all.String())
}

type noRoom struct{ error }

func (w noRoom) Write([]byte) (int, error) { return 0, w.error }

// A failed write is an error of every verb, unless the reader has closed the pipe.
func TestAFullOutputIsAnErrorOfEveryVerb(t *testing.T) {
	for _, args := range []string{"stats", "stats -json", "dead list", "dead retry", "dead retry 2", "dead drop 1", "dead drop all", "jobs list", "jobs retry", "jobs retry 2", "events", "events -limit 1"} {
		dsn, _ := shown(t)
		args := append(strings.Fields(args), "-store", dsn)
		errs := &buffer{}
		require.Equal(t, 1, run(t.Context(), args, streams{noRoom{errors.New("no room")}, errs}), args)
		require.Contains(t, errs.String(), "no room", args)
		require.Zero(t, run(t.Context(), args, streams{noRoom{syscall.EPIPE}, &buffer{}}), args)
	}
	for _, args := range []string{"version", "version -json"} {
		require.Equal(t, 1, run(t.Context(), strings.Fields(args), streams{noRoom{errors.New("no room")}, &buffer{}}), args)
	}
}

// A failing store is an error of every verb: each needs the missing table.
func TestAFailingStoreIsAnErrorOfEveryVerb(t *testing.T) {
	for args, table := range map[string]string{
		"stats": "ranges", "stats -json": "dead_letters", "dead list": "dead_letters", "dead retry": "dead_letters", "dead drop 1": "dead_letters", "dead drop all": "dead_letters",
		"dead retry 2": "streams", "jobs list": "jobs", "jobs retry": "jobs", "jobs retry 2": "jobs", "events": "records", "events -node n1": "nodes",
	} {
		dsn, path := shown(t)
		db, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), `ALTER TABLE `+table+` RENAME TO other`)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		out, errs := &buffer{}, &buffer{}
		require.Equal(t, 1, run(t.Context(), append(strings.Fields(args), "-store", dsn), streams{out, errs}), args)
		require.Contains(t, errs.String(), "no such", args)
		require.Contains(t, errs.String(), table, args)
	}
}

// Unknown words and missing stores are named.
func TestVerbsNameWhatIsWrong(t *testing.T) {
	dsn, _ := shown(t)
	for args, want := range map[string]string{
		"dead mend": `"mend": must be one of drop, list, retry`, "dead retry x": `"x" is not the id`, "dead drop": "drop needs the ids, or the word all", "dead drop all 1": `"all" is not the id`,
		"dead retry -max-data-mib 0": "-max-data-mib 0", "jobs mend": `"mend": must be one of list, retry`, "jobs retry x": `"x" is not the number`,
	} {
		errs := &buffer{}
		require.Equal(t, 1, run(t.Context(), append(strings.Fields(args), "-store", dsn), streams{&buffer{}, errs}), args)
		require.Contains(t, errs.String(), want, args)
	}
	for _, args := range []string{"stats -x", "dead", "dead -x", "jobs", "jobs -x", "events -x", "events -limit -1", "events -after -1", "version -x", "work -x", "deliver -x", "federate -x", "credits -x"} {
		require.Equal(t, 2, run(t.Context(), strings.Fields(args), streams{&buffer{}, &buffer{}}), args)
	}
	for _, args := range []string{"stats", "dead list", "jobs list", "events", "work -models ."} {
		errs := &buffer{}
		require.Equal(t, 1, run(t.Context(), append(strings.Fields(args), "-store", "sqlite:/nowhere/x.db"), streams{&buffer{}, errs}), args)
		require.Contains(t, errs.String(), "/nowhere/x.db", args)
	}
}

// Each flag has its bounds, and both bounds are valid.
func TestFlagsHaveTheirBounds(t *testing.T) {
	good := workFlags{threads: -1, lease: time.Second, tries: 1, models: modelFlags{memoryMiB: 1}}
	require.NoError(t, good.check())
	require.NoError(t, (&workFlags{threads: 1024, lease: time.Hour, tries: 1000, models: modelFlags{memoryMiB: 65536}}).check())
	for want, change := range map[string]func(*workFlags){
		"-threads -2:": func(f *workFlags) { f.threads = -2 }, "-threads 1025:": func(f *workFlags) { f.threads = 1025 },
		"-lease 999ms:": func(f *workFlags) { f.lease = 999 * time.Millisecond }, "-lease 1h0m1s:": func(f *workFlags) { f.lease = time.Hour + time.Second },
		"-tries 0:": func(f *workFlags) { f.tries = 0 }, "-tries 1001:": func(f *workFlags) { f.tries = 1001 },
		"-model-memory-mib 0:": func(f *workFlags) { f.models.memoryMiB = 0 }, "-model-memory-mib 65537:": func(f *workFlags) { f.models.memoryMiB = 65537 },
	} {
		f := good
		change(&f)
		require.ErrorContains(t, f.check(), want)
	}
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		message, data int
		want          string
	}{{1, 1, ""}, {256, 1024, ""}, {0, 1, "-max-message-mib 0"}, {257, 1, "-max-message-mib 257"}, {1, 0, "-max-data-mib 0"}, {1, 1025, "-max-data-mib 1025"}} {
		_, _, err := (&keyFlags{cipher: "auto", maxMiB: c.message, maxDataMiB: c.data}).codecs(log)
		if c.want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
	_, _, err := (&keyFlags{cipher: "rot13", maxMiB: 1, maxDataMiB: 1}).codecs(log)
	require.ErrorContains(t, err, "sealing receipts")
	takes := (&keyFlags{maxMiB: 2, maxDataMiB: 3}).takes()
	require.Equal(t, []int64{2 << 20, 3 << 20}, []int64{takes.MaxMessage, takes.MaxData})
	for from, ok := range map[string]bool{"mqtt://h": true, "mqtts://h": true, "nats://h": false, "http://h": false, "": false} {
		require.Equal(t, ok, (&sourceFlags{from: from}).single() == nil, from)
		require.Error(t, (&sourceFlags{from: from, share: "g"}).single())
	}
	for from, replies := range map[string]string{
		"mqtt://h:1883/path": "", "mqtts://h?x": "", "nats://a:4222,nats://b:4222/?x": "", "http://127.0.0.1:8080/path": "http://cloudcore/{node}",
	} {
		_, err := (&sourceFlags{from: from, id: "c", replies: replies}).transport(sourceLimits{}, log)
		require.ErrorIs(t, err, mqtt.ErrPath, from)
	}
	for address, want := range map[string]bool{
		"localhost": true, "localhost:80": true, "127.0.0.1:80": true, "127.1.2.3": true, "[::1]:80": true, "[::1]": true, "10.0.0.1:80": false, ":80": false, "gateway:80": false, "0.0.0.0:80": false,
	} {
		require.Equal(t, want, loopback(address), address)
	}
	for text, want := range map[string]map[string]string{"": {}, " a = b ,, c=d": {"a": "b", "c": "d"}, "a": nil, "a=": nil, "=b": nil, "a=b,a=c": nil} {
		got, err := classModels(text)
		require.Equal(t, want, got)
		require.Equal(t, want == nil, err != nil, text)
	}
}

// A pipe in place of a regular file is refused, and does not block the program.
func TestAPipeHoldsNothingUp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pipe", "manifest.json"} {
		require.NoError(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
	}
	pipe := filepath.Join(dir, "pipe")
	for _, args := range []string{
		"-from mqtt://127.0.0.1:1 -user u -password-file " + pipe,
		"federate -from mqtt://127.0.0.1:1 -state " + pipe,
		"credits -public " + strings.Repeat("a", 64) + " -ledger " + pipe,
		"credits -rotate " + filepath.Join(dir, "next") + " -ledger " + pipe,
		"deliver -from mqtt://127.0.0.1:1 -to n1 " + dir,
	} {
		log := &buffer{}
		require.Equal(t, 1, run(t.Context(), strings.Fields(args), streams{log, log}), args)
		require.Regexp(t, "must be a file|not a regular file|opening -ledger", log.String(), args)
	}
	require.ErrorContains(t, (&settler{creditsFlags: &creditsFlags{prices: pipe}, book: &credit.Book{}}).settle(t.Context()), "must be a file")
}

// A second signal ends a program that hangs.
func TestASecondSignalEndsTheProgram(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	c := exec.Command(binary(t), "-from", "mqtts://127.0.0.1:1", "-tls-ca", pipe)
	require.NoError(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	defer c.Process.Kill() //nolint:errcheck // it has ended
	var writer *os.File
	eventually(t, func() (open bool) {
		var err error
		writer, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	}, "nothing reads the file")
	defer writer.Close() //nolint:errcheck // nothing is written
	eventually(t, func() bool {
		_ = c.Process.Signal(syscall.SIGTERM) // an interrupt may be ignored, as in a shell's background
		return len(ended) > 0
	}, "it goes on")
}

// A password is the file's first line, read at each connection. A missing file is logged, and the user then has no password.
func TestThePasswordIsReadAtEachConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	require.NoError(t, os.WriteFile(path, []byte("first\r\n"), 0o600))
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	require.Nil(t, (&sourceFlags{passwordFile: path}).login(log), "without a user")
	login := (&sourceFlags{user: "u", passwordFile: path}).login(log)
	is := func(want string) {
		user, password := login()
		require.Equal(t, []string{"u", want}, []string{user, password})
	}
	is("first")
	require.NoError(t, os.WriteFile(path, []byte("second"), 0o600))
	is("second")
	require.Empty(t, text.String())
	require.NoError(t, os.Remove(path))
	is("")
	require.Contains(t, text.String(), "connecting without a password")
	user, password := (&sourceFlags{user: "u"}).login(log)()
	require.Equal(t, []string{"u", ""}, []string{user, password})
}

// A folder of models must exist, and a file of keys must contain a key.
func TestModelsThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	file, none := filepath.Join(dir, "file"), filepath.Join(dir, "none")
	require.NoError(t, os.WriteFile(file, []byte("untrusted comment: no key\n\n"), 0o600))
	for _, c := range []struct {
		flags modelFlags
		want  string
	}{
		{modelFlags{dir: none}, "must be a folder"},
		{modelFlags{dir: file}, "must be a folder"},
		{modelFlags{dir: dir, keys: none}, "reading -model-keys"},
		{modelFlags{dir: dir, keys: file}, "the file contains no key"},
	} {
		_, err := c.flags.open(t.Context())
		require.ErrorContains(t, err, c.want)
	}
}

// On a terminal the progress line is below the log; elsewhere progress is logged when something has happened.
func TestProgressStandsBelowTheLog(t *testing.T) {
	var out, text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	c := &consume.Counts{}
	c.Records.Store(30)
	c.Tasks.Store(20)
	p := &progress{out: &out, terminal: true}
	p.figures(c, log, 10, time.Now().Add(-time.Hour))
	line := "      0 records/s  30 records  20 tasks  0 gaps  0 dead letters"
	require.Equal(t, line, out.String())
	_, err := p.Write([]byte("log\n"))
	require.NoError(t, err)
	_, err = p.Write([]byte("more\n"))
	require.NoError(t, err)
	require.Equal(t, line+"\r\x1b[Klog\nmore\n", out.String())
	require.Empty(t, text.String())
	out.Reset()
	p.start(c, log)()
	require.Equal(t, "  30000 records/s"+line[len("      0 records/s"):]+"\n", regexp.MustCompile(`^ *\d+ r`).ReplaceAllString(out.String(), "  30000 r"), "the last figures stay")
	p.terminal = false
	out.Reset()
	p.figures(c, log, 30, time.Now())
	require.Empty(t, text.String(), "nothing has happened")
	p.figures(c, log, 10, time.Now().Add(-3900*time.Millisecond))
	require.Contains(t, text.String(), "recordsPerSecond=5 records=30 tasks=20 ")
	require.Empty(t, out.String())
}

// /ready returns what is missing, and problems of single keys in addition to "ready".
func TestReadySaysWhatIsMissing(t *testing.T) {
	why := "the store fails"
	mux := newMux(func(context.Context) string { return why }, &keyFlags{}, &consume.Counts{})
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	code, text := ask("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "not ready: the store fails\n", text)
	why = ""
	code, text = ask("/ready")
	require.Equal(t, []any{http.StatusOK, "ready\n"}, []any{code, text})
	_, text = ask("/live")
	require.Equal(t, "live\n", text)
	_, text = ask("/metrics")
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_start_time_seconds ")
	require.Contains(t, text, "offload_cloud_")
	_, err := serveWeb("256.0.0.1:1", mux, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "opening -listen")

	dsn, _ := shown(t)
	db, err := store.Open(t.Context(), dsn, store.Options{MustExist: true})
	require.NoError(t, err)
	require.Empty(t, withoutStore(t.Context(), db))
	require.NoError(t, db.Close())
	require.Equal(t, "the store does not answer", withoutStore(t.Context(), db))
}

// A retry stores a letter that became readable and removes it from the list.
func TestARetryStoresWhatBecameReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
	require.NoError(t, err)
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 9, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
	_, err = db.Commit(t.Context(), &store.Group{Letters: []*store.Letter{
		{Topic: "offload/v1/n1/batch/default", Node: "n1", Reason: "unknown key", Raw: edge.Batch(t, 1, 1, 2, 3)},
		{Topic: "offload/v1/n1/batch/default", Node: "n1", Reason: "unknown key", Raw: edge.Batch(t, 1, 3, 4)},
		{Topic: "offload/v1/n2/batch/default", Node: "n2", Reason: "unknown key", Raw: edge.Batch(t, 1, 5)},
		{Topic: "offload/v1/n1/batch/default", Node: "n1", Reason: "unknown key", Raw: sealed(t, "s2", "other", 1, 4, 9)},
	}})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Equal(t, "1: stored 3 new of 3 records\n2: stored 1 new of 2 records\n3: still unreadable: the content belongs to another node or kind than the topic\n"+
		"4: stored 1 new of 2 records; 1 differ from the records stored under their sequences and are now dead letters\n5: stored 1 new of 1 records\n",
		verb(t, "dead", "retry", "-store", "sqlite:"+path))
	require.Equal(t, 1, strings.Count(verb(t, "dead", "list", "-store", "sqlite:"+path), "unknown key"))
	require.Equal(t, 6, strings.Count(verb(t, "events", "-store", "sqlite:"+path), "\n"))
}
