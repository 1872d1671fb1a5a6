package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
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
	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

func edgeOf(t *testing.T, node, epoch string, seed uint64) *edgetest.Edge {
	return (&edgetest.Edge{Node: node, Epoch: epoch, Records: 1000, Rand: rand.New(rand.NewPCG(seed, 1))}).Prepare(t)
}

// sealed returns a batch of a session; events distinguishes its event ids.
func sealed(t *testing.T, session, events string, floor uint64, seqs ...uint64) []byte {
	t.Helper()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	b := &seal.Batch{ID: fmt.Sprint(session, events, seqs), Node: "n1", Epoch: "e1", Session: session, Class: "default", Created: time.Now(), Floor: floor, Sequences: seqs}
	for _, seq := range seqs {
		one := edgeOf(t, "n1", events, 1).Task(seq)
		b.Tasks = append(b.Tasks, one.Append(nil))
	}
	msg, err := sealer.Seal(nil, b)
	require.NoError(t, err)
	return msg
}

// A spool restored from a copy, or a golden image started twice, reuses sequences: nothing is receipted as something else, everything is named and
// counted, and quarantined records can be stored.
func TestCopiesOfASpoolLoseNothing(t *testing.T) {
	for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "cloud.db"), "postgres": pgtest.Start(t, "fsync=off").Database(t)} {
		t.Run(name, func(t *testing.T) {
			address := edgetest.Broker(t)
			_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn, "-listen", "127.0.0.1:0", "-max-message-mib", "2")
			r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
			r.send(t, batchTopic, sealed(t, "s1", "a", 1, 1, 2, 3, 4, 5))
			receipt := r.receipt(t)
			require.Equal(t, "s1", receipt.Session)
			require.Equal(t, seal.ConsumerLimits{MaxMessage: 2 << 20, MaxData: 64 << 20}, receipt.Limits)

			copied := sealed(t, "s2", "b", 1, 1, 2, 3, 4, 5)
			r.send(t, batchTopic, copied)
			receipt = r.receipt(t)
			require.Equal(t, []any{"s2", []seal.Range(nil), []seal.Range{{First: 1, Last: 5}}}, []any{receipt.Session, receipt.Safe, receipt.Conflicts})
			r.send(t, batchTopic, copied)
			r.receipt(t)
			r.send(t, batchTopic, sealed(t, "s2", "b", 1, 6))
			receipt = r.receipt(t)
			require.Equal(t, []seal.Range{{First: 6, Last: 6}}, receipt.Safe)

			var stats map[string]any
			require.NoError(t, json.Unmarshal([]byte(verb(t, "stats", "-json", "-store", dsn)), &stats))
			require.Equal(t, []any{6.0, 10.0, 5.0}, []any{stats["tasks"], stats["conflicts"], stats["deadLetters"]})
			metrics := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1]
			require.Contains(t, get(t, metrics+"/metrics"), "offload_cloud_conflicts_total 10\n")
			require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
			require.Equal(t, 5, strings.Count(verb(t, "dead", "list", "-store", dsn), "  conflict  "))

			retried := verb(t, "dead", "retry", "-store", dsn)
			require.Equal(t, 5, strings.Count(retried, "stored 1 new of 1 records"), retried)
			require.Equal(t, 11, strings.Count(verb(t, "events", "-store", dsn), "\n"))
			require.Empty(t, verb(t, "dead", "retry", "-store", dsn))
			require.Zero(t, stop(), log.String())
		})
	}
}

// A record that was unreadable when another one took its sequence stays a dead letter until it is stored as well.
func TestARetryNeverLosesWhatIsInConflict(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	db, err := store.Open(t.Context(), dsn, store.Options{DeadCount: 1})
	require.NoError(t, err)
	unreadable := edgeOf(t, "n1", "late", 1).Task(7).Append(nil) // as from a newer program
	commit := func(r store.Record) *store.Result {
		result, err := db.Commit(t.Context(), &store.Group{Batches: []*store.Batch{{Node: "n1", Epoch: "e1", Floor: 1, Records: []store.Record{r}}}})
		require.NoError(t, err)
		return result
	}
	commit(store.Record{Sequence: 7, Raw: unreadable, Problem: "x"})
	require.Len(t, commit(store.Record{Sequence: 7, Task: edgeOf(t, "n1", "other", 1).Task(7)}).Fresh, 1)
	require.NoError(t, db.Close())
	require.Contains(t, verb(t, "dead", "retry", "-store", dsn), "stored 1 new of 1 records\n")
	require.Empty(t, verb(t, "dead", "retry", "-store", dsn))
	require.Equal(t, 2, strings.Count(verb(t, "events", "-store", dsn), "\n"))
}

// hold locks the row of a node, like a worker that hangs in a transaction.
func hold(t *testing.T, dsn, node string) *sql.Tx {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), `SELECT * FROM nodes WHERE name = $1 FOR UPDATE`, node)
	require.NoError(t, err)
	return tx
}

// While one row of twenty is locked, the nineteen other nodes are stored and receipted, /ready names the one, and it follows once it is free.
func TestAHungWorkerStopsOnlyItsNode(t *testing.T) {
	dsn, address := pgtest.Start(t, "fsync=off").Database(t), edgetest.Broker(t)
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn, "-listen", "127.0.0.1:0")
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	send := func(seq uint64) {
		for i := range 20 {
			node := fmt.Sprint("n", i)
			r.send(t, "offload/v1/"+node+"/batch/default", edgeOf(t, node, "e1", seq).Batch(t, 1, seq))
		}
	}
	send(1)
	for range 20 {
		r.receipt(t)
	}
	held := hold(t, dsn, "n7")
	send(2)
	for range 19 {
		require.NotEqual(t, "n7", r.receipt(t).Node)
	}
	ready := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1] + "/ready"
	eventually(t, func() bool { return strings.Contains(get(t, ready), "node n7") }, "ready: %v", log)
	require.NoError(t, held.Rollback())
	require.Equal(t, "n7", r.receipt(t).Node)
	eventually(t, func() bool { return get(t, ready) == "ready\n" }, "ready: %v", log)
	require.Zero(t, stop(), log.String())
}

// A statement_timeout that is too short for a group makes groups smaller.
func TestASmallStatementTimeoutIsLivedWith(t *testing.T) {
	dsn, address := pgtest.Start(t, "fsync=off").Database(t), edgetest.Broker(t)
	db, err := store.Open(t.Context(), dsn, store.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	admin, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	defer admin.Close() //nolint:errcheck // a test's own
	// Each record takes 10 ms to insert: 50 fit into half a second, 400 do not.
	for _, statement := range []string{
		`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'`,
		`CREATE TRIGGER slow BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION slow()`,
	} {
		_, err := admin.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn+"&statement_timeout=500ms")
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	var seqs []uint64
	for i := range uint64(200) {
		seqs = append(seqs, i+1)
	}
	edge := edgeOf(t, "n1", "e1", 1)
	r.send(t, batchTopic, edge.Batch(t, 1, seqs...))
	r.send(t, batchTopic, edge.Batch(t, 1, 201, 202))
	safe := uint64(0)
	for safe < 202 {
		for _, span := range r.receipt(t).Safe {
			safe += span.Len()
		}
	}
	require.Zero(t, stop(), log.String())
}

// If the reader of the lines exits, nothing ends; the consumer logs it once.
func TestAClosedPipeOfLinesEndsNothing(t *testing.T) {
	address, dsn := edgetest.Broker(t), "sqlite:"+filepath.Join(t.TempDir(), "cloud.db")
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	c := &child{cmd: exec.Command(binary(t), "-from", "mqtt://"+address, "-store", dsn, "-jsonl"), ready: make(chan struct{})}
	c.cmd.Stdout = writer
	stderr, err := c.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	require.NoError(t, writer.Close())
	c.log.Go(func() { c.read(stderr) })
	c.awaitReady(t)
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	edge := edgeOf(t, "n1", "e1", 1)
	for seq := range uint64(20) {
		r.send(t, batchTopic, edge.Batch(t, 1, seq+1))
		r.receipt(t)
		if seq == 2 { // like head -1
			_, err := bufio.NewReader(reader).ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, reader.Close())
		}
	}
	log := c.end(t, syscall.SIGTERM)
	require.Equal(t, 1, strings.Count(log, "the reader of -jsonl exited"), log)
	require.Equal(t, 20, strings.Count(verb(t, "events", "-store", dsn), "\n"))
}

// A closed terminal stops the consumer in order.
func TestAHangupIsAStop(t *testing.T) {
	address, dsn := edgetest.Broker(t), "sqlite:"+filepath.Join(t.TempDir(), "cloud.db")
	c := startChild(t, "-from", "mqtt://"+address, "-store", dsn)
	c.awaitReady(t)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGHUP))
	c.log.Wait()
	require.NoError(t, c.cmd.Wait(), c.lines.String())
}

// A post with a name that has a meaning in a URL is answered only to that name.
func TestANodesNameCannotLeadAReceiptElsewhere(t *testing.T) {
	paths := make(chan string, 10)
	router := http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.EscapedPath() })}
	listener, address := listen(t), ""
	go router.Serve(listener) //nolint:errcheck // it ends with the test
	defer router.Close()      //nolint:errcheck // likewise
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	_, log, stop := program(t, "-from", "http://127.0.0.1:0", "-replies", "http://"+listener.Addr().String()+"/{node}", "-store", dsn)
	address = regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1]
	batch := edgeOf(t, "x#y", "e1", 1).Batch(t, 1, 1)
	answer, err := http.Post("http://"+address+"/offload/v1/x%23y/batch/default", "application/json", bytes.NewReader(batch))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, "/x%23y/x%23y/receipt", <-paths)
	require.Zero(t, stop(), log.String())
	require.Empty(t, paths)
	require.NotContains(t, log.String(), "level=WARN", "loopback is safe")
	_, log, stop = program(t, "-from", "http://:0", "-replies", "http://"+listener.Addr().String(), "-store", dsn)
	require.Contains(t, log.String(), "no -keys: any client")
	require.Zero(t, stop())
}
