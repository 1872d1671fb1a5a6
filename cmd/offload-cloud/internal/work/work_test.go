package work

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/answer"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// shelf is a store in memory with leases that do not end.
type shelf struct {
	mu        sync.Mutex
	jobs      []*store.Job
	records   map[int64]*task.Task
	outcomes  map[int64]*store.Outcome
	postponed map[int64][]time.Duration
	renewed   int
	fails     error
	unrenewed error // of RenewJob
	unwritten error // of PostponeJob and FinishJobs
	taken     bool  // RenewJob and FinishJobs report the jobs as taken by another worker
	gone      string
	unended   error // of Ended
	damaged   []*store.Found
}

func newShelf(tasks ...*task.Task) *shelf {
	s := &shelf{records: map[int64]*task.Task{}, outcomes: map[int64]*store.Outcome{}, postponed: map[int64][]time.Duration{}}
	for i, t := range tasks {
		s.records[int64(i)] = t
		s.jobs = append(s.jobs, &store.Job{Record: int64(i), Node: "n1", Model: "double", Tries: 1})
	}
	return s
}

func (s *shelf) TakeJobs(_ context.Context, _, _ string, _ time.Duration, limit int) (jobs []*store.Job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(limit, len(s.jobs))
	jobs, s.jobs = s.jobs[:n], s.jobs[n:]
	return jobs, s.fails
}

func (s *shelf) RenewJob(context.Context, string, int64, time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	return !s.taken && s.unrenewed == nil, s.unrenewed
}

func (s *shelf) PostponeJob(_ context.Context, _ string, record int64, pause time.Duration, _ string, uncounted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if uncounted {
		pause = min(-pause, -1) // marks it for the tests
	}
	s.postponed[record] = append(s.postponed[record], pause)
	return s.unwritten
}

func (s *shelf) FinishJobs(_ context.Context, _ string, outcomes []*store.Outcome) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken || s.unwritten != nil {
		return 0, s.unwritten
	}
	for _, o := range outcomes {
		s.outcomes[o.Record] = o
	}
	return len(outcomes), nil
}

func (s *shelf) JobRecord(_ context.Context, record int64) (*store.Found, error) {
	if t := s.records[record]; t != nil {
		return &store.Found{ID: record, Node: "n1", Task: t}, nil
	}
	return nil, nil
}

func (s *shelf) Of(context.Context, *store.Found) (all []*store.Found, err error) {
	all = s.damaged
	for id, t := range s.records {
		all = append(all, &store.Found{ID: id, Node: "n1", Task: t})
	}
	return all, nil
}

func (s *shelf) Ended(context.Context, *store.Found, int) (string, error) { return s.gone, s.unended }

// model is an inference defined by a test.
type model func(ctx context.Context, t *task.Task) (models.Answer, error)

func (m model) Run(ctx context.Context, t *task.Task) (models.Answer, error) { return m(ctx, t) }

func worker(s *shelf, m model) *Worker {
	return &Worker{
		Store: s, Names: func() []string { return []string{"double"} }, Model: func(string) models.Inference { return m }, ID: "w",
		Threads: 1, Lease: time.Minute, Poll: 10 * time.Millisecond, Tries: 3, Log: slog.New(slog.DiscardHandler),
	}
}

// once computes the present jobs.
func once(w *Worker) { w.round(context.Background(), "w") }

func fine(_ context.Context, t *task.Task) (models.Answer, error) {
	return models.Answer{Model: "double", Version: "1", Resource: t.Readings[0].Resource, Values: []float64{1}, Took: time.Second}, nil
}

// The worker does not wait for chunks that the node has reported as gone, once none can still arrive on another path. The outcome has the number of
// stored chunks, so that a chunk that arrives after all is not overlooked.
func TestChunksThatAreGoneAreNotWaitedFor(t *testing.T) {
	part := edgetest.Measured(1, "n1", 1)
	part.Of = 3
	s := newShelf(part)
	s.gone = "expired"
	s.jobs[0].Age = straggling - time.Second
	jobs := s.jobs
	once(worker(s, fine))
	require.Empty(t, s.outcomes, "records of others may be gone, and a chunk parked or tried locally first")
	require.Len(t, s.postponed[0], 1)
	s.jobs, s.postponed = jobs, map[int64][]time.Duration{}
	s.jobs[0].Age = straggling
	once(worker(s, fine))
	require.Empty(t, s.postponed)
	require.Contains(t, s.outcomes[0].Problem, "2 of 3 chunks are missing")
	require.Contains(t, s.outcomes[0].Problem, "will not arrive: expired")
	require.Equal(t, 1, s.outcomes[0].Stored)
}

// If chunks are missing, a damaged one ends the wait, and a database that does not report the others as gone postpones it.
func TestMissingChunksMayBeDamagedOrUnknown(t *testing.T) {
	part := edgetest.Measured(1, "n1", 1)
	part.Of = 2
	s := newShelf(part)
	jobs := s.jobs
	s.jobs[0].Age, s.unended = patience, errors.New("no connection")
	once(worker(s, fine))
	require.Empty(t, s.outcomes)
	require.Equal(t, []time.Duration{-modelPause}, s.postponed[0])
	s.jobs, s.damaged = jobs, []*store.Found{{Task: &task.Task{}, Problem: "record 7 is damaged"}}
	once(worker(s, fine))
	require.Equal(t, "record 7 is damaged", s.outcomes[0].Problem)
}

// A job ends with an answer or with its reason, or is retried, depending on whether the fault concerns the job or all jobs.
func TestWhatBecomesOfAJob(t *testing.T) {
	own := func(context.Context, *task.Task) (models.Answer, error) {
		return models.Answer{}, &models.TaskError{Model: "double", Version: "1", EventID: "e", Err: errors.New("no such reading")}
	}
	all := func(context.Context, *task.Task) (models.Answer, error) { return models.Answer{}, models.ErrTooBig }
	empty := func(ctx context.Context, t *task.Task) (models.Answer, error) {
		a, err := fine(ctx, t)
		a.Values = nil
		return a, err
	}
	panics := func(context.Context, *task.Task) (models.Answer, error) { panic("index out of range") }
	part := edgetest.Measured(1, "n1", 1)
	part.Of = 2
	garbage := edgetest.Measured(1, "n1", 1)
	garbage.Data = []byte(`{}`)
	for name, c := range map[string]struct {
		task    *task.Task
		model   model
		tries   int
		age     time.Duration
		problem string        // of the outcome, "" for an answer
		pause   time.Duration // if there is no outcome; a negative value means that the attempt does not count
	}{
		"answered":                {edgetest.Measured(1, "n1", 1), fine, 1, 0, "", 0},
		"makes no answer":         {edgetest.Measured(1, "n1", 1), empty, 1, 0, "neither a label nor values", 0},
		"fails, and is retried":   {edgetest.Measured(1, "n1", 1), own, 2, 0, "", 2 * time.Second},
		"fails the last time":     {edgetest.Measured(1, "n1", 1), own, 3, 0, "no such reading", 0},
		"panics":                  {edgetest.Measured(1, "n1", 1), panics, 1, 0, "", time.Second},
		"panics the last time":    {edgetest.Measured(1, "n1", 1), panics, 3, 0, "panicked", 0},
		"no memory for the model": {edgetest.Measured(1, "n1", 1), all, 3, 0, "", -modelPause},
		"its workers ended":       {edgetest.Measured(1, "n1", 1), fine, 4, 0, "ended 3 times", 0},
		"chunks are missing":      {part, fine, 3, 40 * time.Second, "", -10 * time.Second},
		"chunks never came":       {part, fine, 1, patience, "missing", 0},
		"no event":                {garbage, fine, 1, 0, "reading event", 0},
		"deleted":                 {nil, fine, 1, 0, "deleted", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(c.task)
			s.jobs[0].Tries, s.jobs[0].Age = c.tries, c.age
			w, done := worker(s, c.model), 0
			w.Done = func() { done++ }
			once(w)
			if c.pause != 0 {
				require.Empty(t, s.outcomes)
				require.Zero(t, done, "nothing was stored")
				require.Equal(t, []time.Duration{c.pause}, s.postponed[0])
				return
			}
			require.Equal(t, 1, done)
			require.Empty(t, s.postponed)
			require.Len(t, s.outcomes, 1)
			o := s.outcomes[0]
			if c.problem != "" {
				require.Contains(t, o.Problem, c.problem)
				return
			}
			require.Empty(t, o.Problem)
			require.EqualValues(t, time.Second, w.Counts.RunTime.Load())
			a, err := answer.Decode(o.Payload)
			require.NoError(t, err)
			require.Equal(t, []any{"c-" + c.task.EventID, answer.Cloud, "speed", "default"}, []any{a.CorrelationID, a.ComputedBy, a.Inference.Resource, a.Class})
		})
	}
}

// The hop of an event computed by an app-offload is in its tags and reaches the answer: otherwise answers could circulate forever.
func TestTheHopReachesTheAnswer(t *testing.T) {
	one := edgetest.Measured(1, "n1", 1)
	one.Data = []byte(strings.Replace(string(one.Data), `"origin"`, `"tags":{"offloadHop":"2","offloadService":"app-offload-2","offloadNode":"n2"},"origin"`, 1))
	s := newShelf(one)
	once(worker(s, fine))
	a, err := answer.Decode(s.outcomes[0].Payload)
	require.NoError(t, err)
	require.Equal(t, 2, a.Hop)
}

// An event that was cut gets one answer.
func TestChunksAreJoined(t *testing.T) {
	numbers := strings.Repeat("1.5, ", 9999) + "2.5"
	id := "6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11"
	raw := fmt.Sprintf(`{"apiVersion":"v3","id":"%s","deviceName":"d","profileName":"p","sourceName":"s","origin":1,"readings":[{"id":"%s","origin":1,"deviceName":"d",`+
		`"profileName":"p","resourceName":"wave","valueType":"Float64Array","value":"[%s]"}]}`, id, id, numbers)
	at := strings.Index(raw, "[1.5") + 1
	frame := task.Task{
		EventID: id, Device: "d", Profile: "p", Source: "s", Origin: 1, Of: 2, Class: &task.Class{Name: "default"}, Encoding: task.JSON,
		Data: []byte(raw[:at] + raw[at+len(numbers):]), Holes: []task.Hole{{Resource: "wave", At: at, Length: 10_000, Encoding: task.Text}},
	}
	chunk := frame
	chunk.Chunk, chunk.Holes, chunk.Encoding, chunk.Data, chunk.Count, chunk.Type, chunk.Resource = 1, nil, task.Text, []byte(numbers), 10_000, task.Float64Array, "wave"
	s := newShelf(&frame, &chunk)
	s.jobs = s.jobs[:1]
	job := *s.jobs[0]
	var values, of int
	w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
		list, err := t.Readings[0].Floats(nil)
		values, of = len(list), t.Of
		if err != nil {
			return models.Answer{}, err
		}
		return fine(ctx, t)
	})
	once(w)
	require.Empty(t, s.outcomes[0].Problem)
	require.Equal(t, []int{10_000, 1}, []int{values, of})

	s.jobs, s.outcomes, chunk.Offset = []*store.Job{&job}, map[int64]*store.Outcome{}, 1
	once(w)
	require.Empty(t, s.outcomes)
	require.Equal(t, []time.Duration{time.Second}, s.postponed[0], "chunks that do not fit may come again, cut anew")
}

// At the stop the current run ends with its answer, and the jobs after it are returned immediately.
func TestAStopWaitsForOneRunOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 2), edgetest.Measured(3, "n1", 3))
		ctx, stop := context.WithCancel(t.Context())
		w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			time.Sleep(5 * time.Minute)
			return fine(ctx, t)
		})
		began := time.Now()
		time.AfterFunc(time.Minute, stop)
		w.Run(ctx)
		require.Equal(t, 5*time.Minute, time.Since(began))
		require.Len(t, s.outcomes, 1)
		require.Equal(t, map[int64][]time.Duration{1: {-1}, 2: {-1}}, s.postponed, "and lose no try")
		require.Greater(t, s.renewed, 12, "three leases of a minute over five minutes")
	})
}

// stopping is a store whose TakeJobs stops the worker.
type stopping struct {
	*shelf
	stop func()
}

func (s stopping) TakeJobs(ctx context.Context, worker, model string, lease time.Duration, limit int) ([]*store.Job, error) {
	defer s.stop()
	return s.shelf.TakeJobs(ctx, worker, model, lease, limit)
}

func TestJobsTakenAtTheStopAreGivenBack(t *testing.T) {
	s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 1))
	w := worker(s, fine)
	ctx, stop := context.WithCancel(t.Context())
	w.Store = stopping{s, stop}
	w.Run(ctx)
	require.Equal(t, map[int64][]time.Duration{0: {-1}, 1: {-1}}, s.postponed, "no job waits for the end of its lease")
}

// hung is a store that reads no record: the network dropped the connection without a reset.
type hung struct{ *shelf }

func (hung) JobRecord(ctx context.Context, _ int64) (*store.Found, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestADatabaseThatHangsHoldsUpNoStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1))
		w := worker(s, fine)
		w.Store = hung{s}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		began := time.Now()
		w.Run(ctx)
		require.LessOrEqual(t, time.Since(began), reading+time.Second)
		require.Equal(t, map[int64][]time.Duration{0: {-modelPause}}, s.postponed)
	})
}

// While a model is unusable, its jobs are not taken: otherwise each of them would be rewritten every few seconds.
func TestAModelThatCannotBeUsedRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tasks []*task.Task
		for n := range 3 * batch {
			tasks = append(tasks, edgetest.Measured(uint64(n), "n1", 1))
		}
		s, runs := newShelf(tasks...), 0
		w := worker(s, func(context.Context, *task.Task) (models.Answer, error) {
			runs++
			return models.Answer{}, models.ErrTooBig
		})
		for range 3 {
			once(w)
		}
		require.Equal(t, []int{1, batch, 2 * batch}, []int{runs, len(s.postponed), len(s.jobs)}, "one run says it of all")
		time.Sleep(modelPause)
		once(w)
		require.Equal(t, []int{2, batch}, []int{runs, len(s.jobs)})
		for _, pauses := range s.postponed {
			require.Equal(t, []time.Duration{-modelPause}, pauses, "no job lost a try")
		}
	})
}

// A run that never ends does not hold its job forever.
func TestAHungRunLosesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1))
		hang := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			once(worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) { <-hang; return fine(ctx, t) }))
		})
		time.Sleep(longestRun + time.Minute)
		s.mu.Lock()
		then := s.renewed
		s.mu.Unlock()
		time.Sleep(time.Hour)
		require.Equal(t, then, s.renewed)
		s.taken = true
		close(hang)
		running.Wait()
		require.Empty(t, s.outcomes, "the answer of another counts")
	})
}

// A worker does not compute jobs that it has lost.
func TestLostJobsAreNotComputed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 2))
		s.taken = true
		var runs atomic.Int64
		w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			runs.Add(1)
			time.Sleep(2 * time.Minute)
			return fine(ctx, t)
		})
		once(w)
		require.Equal(t, int64(1), runs.Load())
		require.Equal(t, int64(2), w.Counts.Lost.Load())
	})
}

// A damaged row of the database fails only the jobs of its event, which count as failed.
func TestADamagedRowHarmsOnlyItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	db, err := store.Open(t.Context(), "sqlite:"+path, store.Options{})
	require.NoError(t, err)
	defer db.Close() //nolint:errcheck // the test is over
	db.SetModels(map[string]string{"default": "double"})
	b := &store.Batch{Node: "n1", Epoch: "e1"}
	for n := range uint64(4) {
		b.Records = append(b.Records, store.Record{Sequence: n, Task: edgetest.Measured(n, "n1", 1)})
	}
	frame, chunk := *edgetest.Measured(1, "n1", 1), *edgetest.Measured(1, "n1", 1)
	frame.EventID, chunk.EventID, frame.Of, chunk.Of, chunk.Chunk = "cut", "cut", 2, 2, 1
	b.Records[1].Task, b.Records[3].Task = &frame, &chunk
	_, err = db.Commit(t.Context(), &store.Group{Batches: []*store.Batch{b}})
	require.NoError(t, err)
	damage, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = damage.ExecContext(t.Context(), `UPDATE records SET meta = x'ff' WHERE sequence IN (0, 3)`)
	require.NoError(t, err)
	require.NoError(t, damage.Close())
	w := worker(nil, fine)
	w.Store = db
	once(w)
	require.Equal(t, []int64{1, 2, 0}, []int64{w.Counts.Answered.Load(), w.Counts.Failed.Load(), w.Counts.Postponed.Load()})
	answers, err := db.TakeAnswers(t.Context(), time.Second, 10)
	require.NoError(t, err)
	for _, a := range answers {
		require.Equal(t, a.Record == 3, a.Problem == "", "record %d: %s", a.Record, a.Problem)
	}
	failed, err := db.FailedJobs(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Contains(t, failed[0].Problem, "record 1 of the database is damaged")
	require.Contains(t, failed[1].Problem, "record 4 of the database is damaged")
}

// A real model in a real folder computes an answer.
func TestAModelOfTheFolderAnswers(t *testing.T) {
	dir := t.TempDir()
	edgetest.Model(t, dir, "double", "1.0", "default")
	cfg := models.DefaultConfig()
	cfg.Dir, cfg.Variant = dir, models.Cloud
	m, err := models.Open(t.Context(), cfg, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(context.Background())) }()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), store.Options{})
	require.NoError(t, err)
	defer db.Close() //nolint:errcheck // the test is over
	db.SetModels(map[string]string{"default": "double"})
	_, err = db.Commit(t.Context(), &store.Group{Batches: []*store.Batch{{
		Node: "n1", Epoch: "e1", Records: []store.Record{{Sequence: 1, Task: edgetest.Measured(1, "n1", 20.5)}},
	}}})
	require.NoError(t, err)
	w := worker(nil, nil)
	w.Store, w.Model = db, m.Model
	once(w)
	answers, err := db.TakeAnswers(t.Context(), time.Second, 10)
	require.NoError(t, err)
	require.Len(t, answers, 1)
	a, err := answer.Decode(answers[0].Payload)
	require.NoError(t, err)
	require.Equal(t, []float64{42}, a.Inference.Values)
}

// Each metric has its name and unit.
func TestFiguresAreOffered(t *testing.T) {
	var c Counts
	for i, n := range []*atomic.Int64{&c.Answered, &c.Failed, &c.Postponed, &c.Lost, &c.Errors} {
		n.Store(int64(i + 1))
	}
	c.RunTime.Store(int64(90 * time.Second))
	r := prometheus.NewRegistry()
	c.Register(r)
	families, err := r.Gather()
	require.NoError(t, err)
	have := map[string]float64{}
	for _, f := range families {
		have[strings.TrimPrefix(f.GetName(), "offload_cloud_work_")] = f.GetMetric()[0].GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{
		"answered_total": 1, "set_aside_total": 2, "postponed_total": 3, "lost_total": 4, "errors_total": 5, "run_seconds_total": 90,
	}, have)
}

// unreadable is a store without records.
type unreadable struct{ *shelf }

func (unreadable) JobRecord(context.Context, int64) (*store.Found, error) {
	return nil, errors.New("no connection")
}

// Failures are counted each time, and logged once until the recovery.
func TestFailuresAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fails := true
		s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 1), edgetest.Measured(3, "n1", 1), edgetest.Measured(4, "n1", 1))
		jobs := s.jobs
		w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			if fails {
				return models.Answer{}, models.ErrTooBig
			}
			return fine(ctx, t)
		})
		w.Log = slog.New(slog.NewTextHandler(&log, nil))
		for i := range jobs {
			s.jobs = jobs[i : i+1]
			fails = i < 2
			require.True(t, w.round(t.Context(), "w"), "there was a job")
			time.Sleep(modelPause)
		}
		require.False(t, w.round(t.Context(), "w"))
		require.Equal(t, int64(2), w.Counts.Errors.Load())
		require.Equal(t, 1, strings.Count(log.String(), "computing with model double failed"))
		require.Equal(t, 1, strings.Count(log.String(), "computing with model double works again"))

		s.fails = errors.New("no connection")
		require.False(t, w.round(t.Context(), "w"))
		require.Equal(t, int64(3), w.Counts.Errors.Load())
		require.Contains(t, log.String(), "taking jobs failed")

		s.fails, s.unwritten = nil, errors.New("no connection")
		fails = false
		s.jobs = jobs[:1]
		w.round(t.Context(), "w")
		require.Contains(t, log.String(), "storing answers failed")
		require.Equal(t, []int64{4, 1, 2}, []int64{w.Counts.Errors.Load(), w.Counts.Lost.Load(), w.Counts.Answered.Load()}, "it is computed again")
		delete(s.records, 0)
		w.Store, s.jobs = unreadable{s}, jobs[:1]
		w.round(t.Context(), "w")
		require.Contains(t, log.String(), "returning jobs failed")
	})
}

// A lease that cannot be extended, because the database does not answer, may still be valid: the job is computed.
func TestAnErrorOfTheDatabaseLosesNoJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 2))
		s.unrenewed = errors.New("no connection")
		var log bytes.Buffer
		w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			time.Sleep(2 * time.Minute)
			return fine(ctx, t)
		})
		w.Log = slog.New(slog.NewTextHandler(&log, nil))
		once(w)
		require.Len(t, s.outcomes, 2)
		require.Zero(t, w.Counts.Lost.Load())
		require.Greater(t, w.Counts.Errors.Load(), int64(10), "three of each lease")
		require.Equal(t, 1, strings.Count(log.String(), "extending leases failed"))
	})
}

// finishing records the number of outcomes stored together.
type finishing struct {
	*shelf
	sizes *[]int
}

func (f finishing) FinishJobs(ctx context.Context, worker string, outcomes []*store.Outcome) (int, error) {
	*f.sizes = append(*f.sizes, len(outcomes))
	return f.shelf.FinishJobs(ctx, worker, outcomes)
}

// Answers of short runs are stored together, and no answer waits much longer than the gathering for later ones.
func TestAnswersAreStoredTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tasks []*task.Task
		for n := range 10 {
			tasks = append(tasks, edgetest.Measured(uint64(n), "n1", 1))
		}
		s, sizes := newShelf(tasks...), []int{}
		w := worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			time.Sleep(6 * time.Millisecond)
			return fine(ctx, t)
		})
		w.Store = finishing{s, &sizes}
		once(w)
		require.Equal(t, []int{4, 4, 2}, sizes)
		require.Equal(t, int64(10), w.Counts.Answered.Load())
	})
}

// The pause before the next try doubles up to an hour, however many tries there were.
func TestThePauseDoubles(t *testing.T) {
	for tries, want := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 12: 2048 * time.Second, 13: time.Hour, 1000: time.Hour} {
		require.Equal(t, want, pause(tries), tries)
	}
}

// A model that fails on one task alone works again.
func TestAModelThatFailsOnOneTaskWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(edgetest.Measured(1, "n1", 1), edgetest.Measured(2, "n1", 1))
		jobs, err := s.jobs, error(models.ErrTooBig)
		var log bytes.Buffer
		w := worker(s, func(context.Context, *task.Task) (models.Answer, error) { return models.Answer{}, err })
		w.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.jobs = jobs[:1]
		once(w)
		time.Sleep(modelPause)
		s.jobs, err = jobs[1:], &models.TaskError{Model: "double", Version: "1", EventID: "e", Err: errors.New("no such reading")}
		once(w)
		require.Contains(t, log.String(), "computing with model double works again")
	})
}

// Leases are renewed for as long as each run of a batch may take, not for the whole batch.
func TestEachRunOfABatchHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tasks []*task.Task
		for n := range 4 {
			tasks = append(tasks, edgetest.Measured(uint64(n), "n1", 1))
		}
		s, renewed := newShelf(tasks...), 0
		once(worker(s, func(ctx context.Context, t *task.Task) (models.Answer, error) {
			s.mu.Lock()
			renewed = s.renewed
			s.mu.Unlock()
			time.Sleep(longestRun / 2)
			return fine(ctx, t)
		}))
		require.Greater(t, s.renewed, renewed, "also during the last run")
	})
}
