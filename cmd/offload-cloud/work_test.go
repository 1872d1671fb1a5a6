package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
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
	"app-offload/functions/mqtt/mosquittotest"
)

// counted returns the jobs of all nodes.
func counted(t *testing.T, dsn string) (all store.JobCounts) {
	t.Helper()
	for line := range strings.Lines(verb(t, "stats", "-json", "-store", dsn)) {
		var n store.NodeStats
		require.NoError(t, json.Unmarshal([]byte(line), &n))
		if n.Jobs != nil {
			all.Waiting, all.Answered, all.Confirmed = all.Waiting+n.Jobs.Waiting, all.Answered+n.Jobs.Answered, all.Confirmed+n.Jobs.Confirmed
			all.Failed, all.Refused, all.GivenUp = all.Failed+n.Jobs.Failed, all.Refused+n.Jobs.Refused, all.GivenUp+n.Jobs.GivenUp
		}
	}
	return all
}

// ask runs the other half of a node until the test ends.
func ask(t *testing.T, address, node string, silent func() bool) *edgetest.Asker {
	t.Helper()
	a := &edgetest.Asker{Node: node, Silent: silent}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx, t, "tcp://"+address) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return a
}

// A consumer with models computes in its process on SQLite, publishes, and is done once the node has confirmed.
func TestRecordsAreAnswered(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	edgetest.Model(t, dir, "double", "1.0", "default")
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	asker := ask(t, address, "n1", nil)
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn, "-models", dir)
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 300, Doubles: 0.1, Resend: time.Second, Measure: true, Rand: seed(t)}).Prepare(t)
	require.True(t, edge.Run(t.Context(), t, "tcp://"+address))
	tasks := int64(edge.Tasks())
	eventually(t, func() bool { return counted(t, dsn).Confirmed == tasks }, "all are answered and confirmed: %v", log)
	require.Zero(t, stop(), log)
	last, different := asker.Answers()
	require.Len(t, last, int(tasks))
	for seq := uint64(1); seq <= edge.Records; seq++ {
		one := edge.Task(seq)
		var value float64
		_, err := fmt.Sscanf(string(one.Data[strings.LastIndex(string(one.Data), `"value":"`):]), `"value":"%f"`, &value)
		require.NoError(t, err)
		require.Equal(t, 2*value+1, edgetest.Value(t, last[one.EventID]))
		require.Equal(t, 1, different[one.EventID])
	}
	require.Equal(t, store.JobCounts{Confirmed: tasks}, counted(t, dsn))
}

// A record that no model can answer counts as failed after its attempts, with the reason, which the node also receives. It can be retried.
func TestWhatCannotBeAnsweredIsSetAside(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	edgetest.Model(t, dir, "double", "1.0", "default")
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	asker := ask(t, address, "n1", nil)
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn, "-models", dir, "-tries", "1")
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 3, Resend: time.Second, Rand: seed(t)}).Prepare(t) // events without fields that EdgeX requires
	require.True(t, edge.Run(t.Context(), t, "tcp://"+address))
	eventually(t, func() bool { return counted(t, dsn) == store.JobCounts{Failed: 3} }, "all have failed: %v", log)
	eventually(t, func() bool { last, _ := asker.Answers(); return len(last) == 3 }, "the node knows")
	last, _ := asker.Answers()
	for _, r := range last {
		require.False(t, r.OK)
		require.Contains(t, r.Error, "reading event")
	}
	list := verb(t, "jobs", "list", "-store", dsn)
	require.Equal(t, 3, strings.Count(list, `"model":"double"`), list)
	require.Contains(t, verb(t, "stats", "-store", dsn), "failed 3")
	require.Equal(t, "jobs to be computed again: 3\n", verb(t, "jobs", "retry", "-store", dsn))
	eventually(t, func() bool { return counted(t, dsn) == store.JobCounts{Failed: 3} }, "they fail again: %v", log)
	require.Zero(t, stop(), log)
}

// A missing model costs no job an attempt: its jobs wait for it. A separate worker computes them.
func TestJobsWaitForTheirModel(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	ask(t, address, "n1", nil)
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn, "-class-model", "default=double, other=x")
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 20, Resend: time.Second, Measure: true, Rand: seed(t)}).Prepare(t)
	require.True(t, edge.Run(t.Context(), t, "tcp://"+address))
	require.Equal(t, store.JobCounts{Waiting: 20}, counted(t, dsn))
	edgetest.Model(t, dir, "double", "1.0")
	listen := mosquittotest.FreeAddress(t)
	_, worked, stopWork := program(t, "work", "-models", dir, "-store", dsn, "-threads", "2", "-listen", listen)
	eventually(t, func() bool { return counted(t, dsn) == store.JobCounts{Confirmed: 20} }, "all are answered: %v %v", log, worked)
	require.Contains(t, get(t, "http://"+listen+"/metrics"), "offload_cloud_work_answered_total 20\n")
	require.Equal(t, "ready\n", get(t, "http://"+listen+"/ready"))
	require.Zero(t, stopWork(), worked)
	require.Contains(t, worked.String(), "answered=20")
	require.Zero(t, stop(), log)
}

// Wrong flags are reported before anything starts.
func TestWorkFlagsAreChecked(t *testing.T) {
	for want, args := range map[string][]string{
		"-models is missing":  {"work"},
		"must be a folder":    {"work", "-models", filepath.Join(t.TempDir(), "none")},
		"-lease":              {"work", "-models", t.TempDir(), "-lease", "1ms"},
		"-tries":              {"work", "-models", t.TempDir(), "-tries", "0"},
		"-threads":            {"work", "-models", t.TempDir(), "-threads", "-2"},
		"-class-model":        {"-from", "mqtt://localhost:1", "-store", "sqlite:" + filepath.Join(t.TempDir(), "x.db"), "-class-model", "default"},
		"must be one of list": {"jobs", "drop", "-store", "sqlite:" + filepath.Join(t.TempDir(), "x.db")},
		"unexpected argument": {"work", "more"},
	} {
		out, log := &buffer{}, &buffer{}
		if strings.HasPrefix(want, "must be one of") {
			db, err := store.Open(t.Context(), args[3], store.Options{})
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}
		require.NotZero(t, run(t.Context(), args, streams{out, log}))
		require.Contains(t, log.String(), want)
	}
}

// The invariant: whatever is killed at any time, every record of a class with a model ends with exactly one result, which the node receives and
// confirms. The node itself loses some results, like one that is killed.
func TestKilledWorkersLeaveOneResultEach(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		killWorkers(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		killWorkers(t, pgtest.Start(t).Database(t))
	})
}

func killWorkers(t *testing.T, dsn string) {
	random, rounds := seed(t), killRounds(t)
	address, dir := edgetest.Broker(t), t.TempDir()
	edgetest.Model(t, dir, "double", "1.0", "default")
	edge := (&edgetest.Edge{
		Node: "n1", Epoch: "e1", Records: uint64(400 * rounds), Doubles: 0.02, Resend: time.Second, Measure: true, Rand: rand.New(rand.NewPCG(random.Uint64(), 2)),
	}).Prepare(t)
	var mu sync.Mutex
	deaf := rand.New(rand.NewPCG(random.Uint64(), 3))
	asker := ask(t, address, "n1", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return deaf.Float64() < 0.1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Duration(rounds)*30*time.Second)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { edge.Run(ctx, t, "tcp://"+address) })
	crew := map[string][]string{
		"consumer": {"-from", "mqtt://" + address, "-store", dsn, "-id", "consumer", "-models", dir, "-threads", "1", "-lease", "1s", "-tries", "50"},
		"worker-1": {"work", "-models", dir, "-store", dsn, "-threads", "2", "-lease", "1s", "-tries", "50"},
		"worker-2": {"work", "-models", dir, "-store", dsn, "-threads", "1", "-lease", "1s", "-tries", "50"},
	}
	names := []string{"consumer", "worker-1", "worker-2"}
	alive := map[string]*child{}
	start := func(name string) {
		alive[name] = startChild(t, crew[name]...)
		alive[name].awaitReady(t)
	}
	for _, name := range names { // the consumer first, which creates the tables
		start(name)
	}
	for range rounds {
		time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		dead := names[:1+random.IntN(len(names))]
		t.Logf("killing %v with %d records left", dead, edge.Left())
		for _, name := range dead {
			alive[name].end(t, syscall.SIGKILL)
		}
		for _, name := range dead {
			start(name)
		}
	}
	running.Wait()
	require.Zero(t, edge.Left())
	tasks := int64(edge.Tasks())
	var now store.JobCounts
	for began := time.Now(); now != (store.JobCounts{Confirmed: tasks}); time.Sleep(100 * time.Millisecond) {
		now = counted(t, dsn)
		require.Less(t, time.Since(began), 2*time.Minute, "of %d tasks: %+v", tasks, now)
	}
	for _, name := range names {
		alive[name].end(t, syscall.SIGTERM)
	}
	last, different := asker.Answers()
	require.Len(t, last, int(tasks))
	for event, r := range last {
		require.Equal(t, 1, different[event], "results of event %s", event)
		_ = edgetest.Value(t, r)
	}
	t.Log(strconv.FormatInt(tasks, 10), "tasks, each with one result; seed", os.Getenv("SEED"))
}
