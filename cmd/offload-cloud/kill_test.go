package main

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/store"
)

// child is the program in a separate process.
type child struct {
	cmd   *exec.Cmd
	ready chan struct{}
	log   sync.WaitGroup
	lines strings.Builder
}

func startChild(t testing.TB, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(binary(t), args...), ready: make(chan struct{})}
	out, err := c.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	c.log.Go(func() { c.read(out) })
	return c
}

func (c *child) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for found := false; lines.Scan(); {
		c.lines.WriteString(lines.Text() + "\n")
		if !found && strings.Contains(lines.Text(), "msg=ready") {
			found = true
			close(c.ready)
		}
	}
}

// end signals the process, waits for its end and returns its log.
func (c *child) end(t testing.TB, signal syscall.Signal) string {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(signal), "the program exited unexpectedly")
	c.log.Wait()
	err := c.cmd.Wait()
	if signal == syscall.SIGTERM {
		require.NoError(t, err, c.lines.String())
	}
	return c.lines.String()
}

func (c *child) awaitReady(t testing.TB) {
	t.Helper()
	select {
	case <-c.ready:
	case <-time.After(time.Minute):
		t.Fatalf("the program does not become ready:\n%s", c.end(t, syscall.SIGKILL))
	}
}

// killRounds returns how often the consumer is killed; KILL_ROUNDS sets it for longer runs.
func killRounds(t testing.TB) int {
	t.Helper()
	text := os.Getenv("KILL_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "KILL_ROUNDS")
	return n
}

// seed makes a run repeatable within the limits of timing; SEED sets it.
func seed(t testing.TB) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		n, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "SEED")
	}
	t.Logf("SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// The invariant: however often and whenever the consumer is killed, a receipted record is in the database, every task is stored exactly once, and
// once a node has its last receipt nothing is missing.
func TestKillLosesAndDoublesNothing(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		kill(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		kill(t, pgtest.Start(t).Database(t))
	})
}

func kill(t *testing.T, dsn string) {
	random, rounds := seed(t), killRounds(t)
	address := edgetest.Broker(t)
	edges := make([]*edgetest.Edge, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Duration(rounds)*30*time.Second)
	defer cancel()
	var running sync.WaitGroup
	for i := range edges {
		edges[i] = (&edgetest.Edge{
			Node: "node-" + strconv.Itoa(i), Epoch: "e1", Records: uint64(1000 * rounds), Doubles: 0.02, Resend: time.Second,
			Rand: rand.New(rand.NewPCG(random.Uint64(), 2)),
		}).Prepare(t)
		running.Go(func() { edges[i].Run(ctx, t, "tcp://"+address) })
	}
	start := func() *child {
		c := startChild(t, "-from", "mqtt://"+address, "-store", dsn, "-id", "consumer")
		c.awaitReady(t)
		return c
	}
	for round := range rounds {
		c := start()
		// The kills are spread over the whole work, at any speed of the machine; the random pause varies the moment within a transaction.
		left := float64(edges[0].Records) * (1 - (float64(round)+random.Float64())/float64(rounds))
		for patience := time.Now(); edges[0].Left() > int(left) && time.Since(patience) < 5*time.Second; {
			time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
		}
		t.Logf("killed with %d and %d records left", edges[0].Left(), edges[1].Left())
		c.end(t, syscall.SIGKILL)
	}
	last := start()
	running.Wait()
	last.end(t, syscall.SIGTERM)
	verify(t, dsn, edges...)
}

// verify reads the database without knowledge of how it was written.
func verify(t *testing.T, dsn string, edges ...*edgetest.Edge) {
	t.Helper()
	db, err := store.Open(t.Context(), dsn, store.Options{MustExist: true})
	require.NoError(t, err)
	defer db.Close() //nolint:errcheck // the test is over
	nodes, err := db.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, nodes, len(edges))
	for i, e := range edges {
		require.Zero(t, e.Left(), "%s has records without a receipt", e.Node)
		require.Equal(t, e.Node, nodes[i].Node)
		require.Equal(t, int64(e.Records), nodes[i].Records)
		require.Zero(t, nodes[i].Gaps)
		require.Zero(t, nodes[i].DeadLetters)
		have := map[string]int{}
		for after := int64(0); ; {
			page, err := db.First(t.Context(), store.Filter{Node: e.Node, After: after, Limit: 1000})
			require.NoError(t, err)
			for _, found := range page {
				have[found.Task.EventID]++
				after = found.ID
			}
			if len(page) < 1000 {
				break
			}
		}
		for seq := uint64(1); seq <= e.Records; seq++ {
			require.Equal(t, 1, have[e.Task(seq).EventID], "%s, sequence %d", e.Node, seq)
		}
		require.Len(t, have, e.Tasks())
		t.Logf("%s: %d records, %d tasks, %d records and %d tasks came again", e.Node, nodes[i].Records, nodes[i].Tasks,
			nodes[i].DuplicateRecords, nodes[i].DuplicateTasks)
	}
}
