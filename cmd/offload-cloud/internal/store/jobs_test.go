package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/ranges"
)

// withModel gives the class default the model bearing.
func withModel(s *Store) *Store {
	s.SetModels(map[string]string{"default": "bearing"})
	return s
}

func taken(t *testing.T, s *Store, worker string, lease time.Duration, limit int) (records []int64) {
	t.Helper()
	jobs, err := s.TakeJobs(t.Context(), worker, "bearing", lease, limit)
	require.NoError(t, err)
	for _, j := range jobs {
		require.Equal(t, "n1", j.Node)
		records = append(records, j.Record)
	}
	slices.Sort(records)
	return records
}

func finish(t *testing.T, s *Store, worker string, record int64, payload, problem string) bool {
	t.Helper()
	held, err := s.FinishJobs(t.Context(), worker, []*Outcome{{Record: record, Payload: []byte(payload), Problem: problem}})
	require.NoError(t, err)
	return held == 1
}

func answers(t *testing.T, s *Store) []*Answered {
	t.Helper()
	all, err := s.TakeAnswers(t.Context(), time.Second, 100)
	require.NoError(t, err)
	return all
}

func jobCounts(t *testing.T, s *Store) JobCounts {
	t.Helper()
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, nodes, 1)
	return *nodes[0].Jobs
}

func testJobs(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1))
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Nil(t, nodes[0].Jobs, "without models there are no jobs")
	withModel(s)
	require.Equal(t, 2, commit(t, s, batch("n1", 1, 1, 2, 3)).Jobs, "a record that was there before has none")
	require.Zero(t, commit(t, s, batch("n1", 1, 2, 3)).Jobs, "nor one that comes again")
	other := batch("n1", 1, 4, 5)
	other.Records[0].Task.Class.Name = "camera"
	other.Records[1].Task.Chunk, other.Records[1].Task.Of = 1, 2
	require.Zero(t, commit(t, s, other).Jobs, "nor a class without a model, nor a later chunk")
	require.Equal(t, JobCounts{Waiting: 2}, jobCounts(t, s))
	records := taken(t, s, "w1", time.Minute, 10)
	require.Len(t, records, 2)
	found, err := s.JobRecord(t.Context(), records[0])
	require.NoError(t, err)
	require.Equal(t, "n1-2", found.Task.EventID)
	require.Empty(t, taken(t, s, "w2", time.Minute, 10), "each job is taken once")
}

func testLeases(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", 50*time.Millisecond, 10)[0]
	held, err := s.RenewJob(t.Context(), "w1", record, 50*time.Millisecond)
	require.NoError(t, err)
	require.True(t, held)
	time.Sleep(60 * time.Millisecond)
	require.Equal(t, []int64{record}, taken(t, s, "w2", time.Minute, 10))
	require.False(t, finish(t, s, "w1", record, "late", ""), "the lease ended")
	held, err = s.RenewJob(t.Context(), "w1", record, time.Minute)
	require.NoError(t, err)
	require.False(t, held)
	require.True(t, finish(t, s, "w2", record, "{}", ""))
	require.False(t, finish(t, s, "w2", record, "again", ""), "there is one answer")
	require.Equal(t, "{}", string(answers(t, s)[0].Payload))
}

func testRetriesAreTakenAlone(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1, 2, 3, 4))
	first := taken(t, s, "w1", time.Millisecond, 2)
	require.Len(t, first, 2)
	time.Sleep(5 * time.Millisecond)
	var again, fresh []int64
	for call := range 3 {
		got := taken(t, s, "w2", time.Minute, 2)
		if slices.Contains(first, got[0]) {
			require.Len(t, got, 1, "it may have ended its worker")
			again = append(again, got...)
		} else {
			fresh = append(fresh, got...)
		}
		if call == 1 {
			require.NotEmpty(t, again, "fresh jobs delay due ones")
			require.NotEmpty(t, fresh, "due jobs delay fresh ones")
		}
	}
	require.ElementsMatch(t, first, again)
	require.Len(t, fresh, 2)
}

func testAnswers(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", time.Minute, 10)[0]
	require.Empty(t, answers(t, s))
	require.True(t, finish(t, s, "w1", record, `{"label":"worn"}`, ""))
	a := answers(t, s)
	require.Len(t, a, 1)
	require.Equal(t, []any{"n1", "n1-1", 0, `{"label":"worn"}`, "", 1}, []any{a[0].Node, a[0].EventID, a[0].Chunk, string(a[0].Payload), a[0].Problem, a[0].Sends})
	require.WithinDuration(t, time.Now(), a[0].At, time.Minute)
	require.Empty(t, answers(t, s), "not before the pause is over")
	require.Equal(t, JobCounts{Answered: 1}, jobCounts(t, s))
	_, err := s.write.ExecContext(t.Context(), `UPDATE jobs SET due = due - 2000000000`)
	require.NoError(t, err)
	again := answers(t, s)
	require.Len(t, again, 1)
	require.Equal(t, a[0].ID, again[0].ID)
	for _, c := range []*Confirmed{
		{Node: "n2", Results: []ConfirmedResult{{ID: a[0].ID}}},
		{Node: "n1", Results: []ConfirmedResult{{ID: "x"}, {ID: ""}, {ID: fmt.Sprint(record)}, {ID: fmt.Sprintf("%d-0000000000000000", record)}}},
	} {
		_, err := s.Commit(t.Context(), &Group{Confirmed: []*Confirmed{c}})
		require.NoError(t, err)
		require.Equal(t, JobCounts{Answered: 1}, jobCounts(t, s), "another's word, or one about another result")
	}
	for range 2 {
		_, err := s.Commit(t.Context(), &Group{Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: a[0].ID}}}}})
		require.NoError(t, err)
		require.Equal(t, JobCounts{Confirmed: 1}, jobCounts(t, s))
	}
}

// Answers to a node that never confirms are published less and less often, and then no more.
func testGivenUp(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", time.Minute, 10)[0]
	require.True(t, finish(t, s, "w1", record, "{}", ""))
	id := ""
	for n := 1; n <= maxSends; n++ {
		a := answers(t, s)
		require.Len(t, a, 1, n)
		id = a[0].ID
		_, err := s.write.ExecContext(t.Context(), `UPDATE jobs SET due = 0`)
		require.NoError(t, err)
	}
	require.Empty(t, answers(t, s))
	require.Equal(t, JobCounts{GivenUp: 1}, jobCounts(t, s))
	failed, err := s.FailedJobs(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, failed, 1)
	require.Equal(t, "its answer was published 24 times, and the node has not confirmed it", failed[0].Problem)
	_, err = s.Commit(t.Context(), &Group{Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: id}}}}})
	require.NoError(t, err)
	require.Equal(t, JobCounts{Confirmed: 1}, jobCounts(t, s), "a late word counts")
	again, err := s.RetryJob(t.Context(), record)
	require.NoError(t, err)
	require.False(t, again, "the node has its answer")
	_, err = s.write.ExecContext(t.Context(), `UPDATE jobs SET state = 4`)
	require.NoError(t, err)
	again, err = s.RetryJob(t.Context(), record)
	require.NoError(t, err)
	require.True(t, again)
	require.Equal(t, JobCounts{Waiting: 1}, jobCounts(t, s))
}

// A confirmation of a job's previous result does not apply to its new one.
func testARetriedJobHasANewResult(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", time.Minute, 10)[0]
	require.True(t, finish(t, s, "w1", record, "", "no memory"))
	old := answers(t, s)[0].ID
	again, err := s.RetryJob(t.Context(), record)
	require.NoError(t, err)
	require.True(t, again)
	require.Equal(t, []int64{record}, taken(t, s, "w1", time.Minute, 10))
	require.True(t, finish(t, s, "w1", record, "{}", ""))
	confirm := func(id string) JobCounts {
		_, err := s.Commit(t.Context(), &Group{Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: id}}}}})
		require.NoError(t, err)
		return jobCounts(t, s)
	}
	require.Equal(t, JobCounts{Answered: 1}, confirm(old))
	id := answers(t, s)[0].ID
	require.NotEqual(t, old, id)
	require.Equal(t, JobCounts{Answered: 1}, confirm(id+"-1"))
	require.Equal(t, JobCounts{Confirmed: 1}, confirm(id))
}

// A chunk that arrives after its event's job has failed restarts the job; a chunk of another event or node does not.
func testALateChunkBeginsTheJobAnew(t *testing.T, s *Store) {
	chunk := func(node, event string, seq uint64, n int) *Batch {
		b := batch(node, 1, seq)
		b.Records[0].Task.EventID, b.Records[0].Task.Chunk, b.Records[0].Task.Of = event, n, 3
		return b
	}
	require.Equal(t, 1, commit(t, withModel(s), chunk("n1", "e", 1, 0)).Jobs)
	record := taken(t, s, "w1", time.Minute, 10)[0]
	require.True(t, finish(t, s, "w1", record, "", "chunks are missing"))
	commit(t, s, chunk("n1", "other", 2, 1), chunk("n2", "e", 1, 1))
	require.Empty(t, taken(t, s, "w1", time.Minute, 10))
	_, err := s.write.ExecContext(t.Context(), fmt.Sprintf(`UPDATE jobs SET created = created - %d`, 40*time.Hour))
	require.NoError(t, err)
	commit(t, s, chunk("n1", "e", 3, 1))
	jobs, err := s.TakeJobs(t.Context(), "w1", "bearing", time.Minute, 10)
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.Equal(t, record, jobs[0].Record)
	require.Less(t, jobs[0].Age, time.Minute, "its other chunks may take as long as those of an event that has just come")
	require.True(t, finish(t, s, "w1", record, "", "chunks are missing"))
	other := chunk("n1", "e", 4, 2)
	other.Records[0].Task.Class.Name = "camera"
	commit(t, s, other)
	require.Equal(t, []int64{record}, taken(t, s, "w1", time.Minute, 10), "a chunk of another class, which has no model")
	require.True(t, finish(t, s, "w1", record, "{}", ""))
	commit(t, s, chunk("n1", "e", 5, 2))
	require.Empty(t, taken(t, s, "w1", time.Minute, 10), "it has an answer")
}

// A chunk stored while a worker finds it missing is not overlooked.
func testAChunkThatComesWhileItIsFoundMissing(t *testing.T, s *Store) {
	parts := func(seq uint64, n int) *Batch {
		b := batch("n1", 1, seq)
		b.Records[0].Task.EventID, b.Records[0].Task.Chunk, b.Records[0].Task.Of = "e", n, 2
		return b
	}
	commit(t, withModel(s), parts(1, 0))
	record := taken(t, s, "w1", time.Minute, 10)[0]
	missing := []*Outcome{{Record: record, Problem: "chunks are missing", Stored: 1}}
	commit(t, s, parts(2, 1))
	held, err := s.FinishJobs(t.Context(), "w1", missing)
	require.NoError(t, err)
	require.Equal(t, 1, held)
	require.Equal(t, JobCounts{Waiting: 1}, jobCounts(t, s))
	require.Equal(t, []int64{record}, taken(t, s, "w1", time.Minute, 10))
	missing[0].Stored = 2
	_, err = s.FinishJobs(t.Context(), "w1", missing)
	require.NoError(t, err)
	require.Equal(t, JobCounts{Failed: 1}, jobCounts(t, s))
}

// A node's statement about gone records shows that the missing chunks of an event written around them will not arrive.
func testChunksThatAreGone(t *testing.T, s *Store) {
	parts := func(event string, first uint64, chunks ...int) *Batch {
		b := &Batch{Node: "n1", Epoch: "e1", Floor: 1}
		for _, n := range chunks {
			one := whole(event)
			one.Chunk, one.Of = n, 4
			b.Records = append(b.Records, Record{Sequence: first + uint64(n), Task: one})
		}
		return b
	}
	commit(t, s, parts("before", 1, 0, 1, 2, 3), parts("e", 5, 0, 2, 3), parts("after", 9, 0, 1))
	ended := func(event string, missing int) string {
		all, err := s.found(t.Context(), `r.event_id = $1 ORDER BY r.id`, event)
		require.NoError(t, err)
		why, err := s.Ended(t.Context(), all[0], missing)
		require.NoError(t, err)
		return why
	}
	require.Empty(t, ended("e", 1), "nothing is known of it yet")
	gone := func(last ranges.Span) {
		_, err := s.Commit(t.Context(), &Group{Gone: []*Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{last}}}})
		require.NoError(t, err)
	}
	gone(ranges.Span{First: 6, Last: 6, Fate: "expired"})
	require.Equal(t, "expired", ended("e", 1))
	require.Empty(t, ended("after", 2), "one record is not there, and it is another event's")
	gone(ranges.Span{First: 11, Last: 12, Fate: "full"})
	require.Equal(t, "full", ended("after", 2))
	gone(ranges.Span{First: 13, Last: 16, Fate: "expired"})
	commit(t, s, parts("next", 17, 0))
	require.Empty(t, ended("next", 3), "the gone records were written before it, its own chunks may still arrive")
	commit(t, s, parts("next", 17, 1, 2))
	require.Empty(t, ended("next", 1))
	gone(ranges.Span{First: 20, Last: 20, Fate: "expired"})
	require.Equal(t, "expired", ended("next", 1))
	commit(t, s, parts("between", 21, 0, 1, 2, 3), parts("restarted", 25, 0, 1, 2))
	gone(ranges.Span{First: 28, Last: 28, Fate: "skipped"})
	require.Empty(t, ended("restarted", 1), "no record ever had the sequence")
	other := parts("twice", 29, 1)
	other.Epoch = "e2"
	commit(t, s, parts("twice", 29, 0), other)
	gone(ranges.Span{First: 30, Last: 32, Fate: "expired"})
	require.Empty(t, ended("twice", 2), "it is in two epochs, and those that are gone are around its chunk in one of them")
	commit(t, s, parts("anew", 33, 0), parts("anew", 36, 1))
	gone(ranges.Span{First: 34, Last: 36, Fate: "expired"})
	require.Empty(t, ended("anew", 2), "its records are too far apart for one cut of it")
	commit(t, s, parts("last", 40, 0))
	gone(ranges.Span{First: 43, Last: 60, Fate: "expired"})
	require.Empty(t, ended("last", 3), "most gone records are too far behind, and two chunks may still arrive")
}

// Confirmations for one node and chunks of another take locks in one order, in every consumer.
func TestConfirmationsAndLateChunksDoNotWaitForEachOther(t *testing.T) {
	dsn := pgtest.Start(t, "fsync=off", "deadlock_timeout=50ms").Database(t)
	s := withModel(open(t, dsn, Options{}))
	chunk := func(node string, seq uint64, n int) *Batch {
		b := batch(node, 1, seq)
		b.Records[0].Task.EventID, b.Records[0].Task.Chunk, b.Records[0].Task.Of = fmt.Sprint("e", seq/100), n, 50
		return b
	}
	for round := range uint64(10) {
		at := round*100 + 1
		commit(t, s, chunk("n1", at, 0), chunk("n2", at, 0))
		jobs, err := s.TakeJobs(t.Context(), "w", "bearing", time.Minute, 10)
		require.NoError(t, err)
		for _, j := range jobs { // including those of earlier rounds
			require.True(t, finish(t, s, "w", j.Record, "", "chunks are missing"))
		}
		named := map[string][]ConfirmedResult{}
		for _, a := range answers(t, s) {
			named[a.Node] = append(named[a.Node], ConfirmedResult{ID: a.ID})
		}
		var running sync.WaitGroup
		for i, node := range []string{"n1", "n2"} { // each brings a chunk for one node, and a confirmation for the other
			other := []string{"n2", "n1"}[i]
			running.Go(func() {
				g := &Group{Batches: []*Batch{chunk(node, at+1, 1)}, Confirmed: []*Confirmed{{Node: other, Results: named[other]}}}
				for n := range 40 { // many chunks widen the time between the locks
					g.Batches = append(g.Batches, chunk(node, at+2+uint64(n), 2+n))
				}
				if _, err := s.Commit(t.Context(), g); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
}

// An answer that its node never confirms is not published forever, however often the node disappears and returns.
func testAnswersThatAreNeverConfirmed(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", time.Minute, 10)[0]
	require.True(t, finish(t, s, "w1", record, "{}", ""))
	published := 0
	for contact := range 20 {
		for range maxSends + 1 {
			_, err := s.write.ExecContext(t.Context(), `UPDATE jobs SET due = 0 WHERE state = 2`)
			require.NoError(t, err)
			published += len(answers(t, s))
		}
		_, err := s.write.ExecContext(t.Context(), fmt.Sprintf(`UPDATE nodes SET seen = seen - %d`, 2*time.Hour))
		require.NoError(t, err)
		commit(t, s, batch("n1", 1, uint64(contact)+100))
	}
	require.Equal(t, maxSends*maxRounds, published)
	require.EqualValues(t, 1, jobCounts(t, s).GivenUp)
	failed, err := s.FailedJobs(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("its answer was published %d times, and the node has not confirmed it", published), failed[0].Problem)
	again, err := s.RetryJob(t.Context(), record)
	require.NoError(t, err)
	require.True(t, again)
}

// The answers of a node that was away are published immediately after its return, including dropped ones.
func testAnswersOfANodeThatWasAway(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1, 2))
	exec := func(statement string) {
		_, err := s.write.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	for _, record := range taken(t, s, "w1", time.Minute, 10) {
		require.True(t, finish(t, s, "w1", record, "{}", ""))
	}
	first := answers(t, s)
	require.Len(t, first, 2)
	exec(fmt.Sprintf(`UPDATE jobs SET state = 4, sends = 24 WHERE record = %d`, first[0].Record))
	commit(t, s, batch("n1", 1, 3))
	require.Empty(t, answers(t, s), "it was not away")
	exec(fmt.Sprintf(`UPDATE nodes SET seen = seen - %d`, 2*time.Hour))
	commit(t, s, batch("n1", 1, 4))
	back := answers(t, s)
	require.Len(t, back, 2)
	for _, a := range back {
		require.Contains(t, []string{first[0].ID, first[1].ID}, a.ID)
		require.Equal(t, a.Record == first[0].Record, a.Sends == 25)
	}
	require.Empty(t, answers(t, s))
}

func testFailedJobs(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1, 2))
	records := taken(t, s, "w1", time.Minute, 10)
	require.NoError(t, s.PostponeJob(t.Context(), "w1", records[0], 0, "no memory\x00", true))
	require.Equal(t, records[:1], taken(t, s, "w1", time.Minute, 10))
	require.NoError(t, s.PostponeJob(t.Context(), "w1", records[1], 0, "no memory", true))
	require.Equal(t, records[1:], taken(t, s, "w1", time.Minute, 10))
	require.True(t, finish(t, s, "w1", records[0], "", "no reading of resource \xff"))
	require.True(t, finish(t, s, "w1", records[1], "{}", ""))
	for _, a := range answers(t, s) {
		require.Equal(t, a.Record == records[0], a.Problem != "")
		if a.Record == records[1] {
			_, err := s.Commit(t.Context(), &Group{Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: a.ID, Refused: "too old"}}}}})
			require.NoError(t, err)
		}
	}
	require.Equal(t, JobCounts{Failed: 1, Refused: 1}, jobCounts(t, s))
	failed, err := s.FailedJobs(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, failed, 2)
	require.Equal(t, []any{"n1", "n1-1", "bearing", "default", 1, "no reading of resource \uFFFD"},
		[]any{failed[0].Node, failed[0].Event, failed[0].Model, failed[0].Class, failed[0].Tries, failed[0].Problem})
	require.Equal(t, "too old", failed[1].Problem)
	again, err := s.RetryJob(t.Context(), records[0])
	require.NoError(t, err)
	require.True(t, again)
	require.Equal(t, records[:1], taken(t, s, "w1", time.Minute, 10))
}

// In the tables of an earlier version, SQLite reuses the id of the last record after its deletion, while its job still exists.
func testIDUsedBefore(t *testing.T, s *Store) {
	if s.dialect.name() == "SQLite" {
		_, err := s.write.ExecContext(t.Context(), `DROP TRIGGER offload_newest`)
		require.NoError(t, err)
	}
	commit(t, withModel(s), batch("n1", 1, 1))
	old := taken(t, s, "w1", time.Minute, 10)[0]
	_, err := s.write.ExecContext(t.Context(), `DELETE FROM records`)
	require.NoError(t, err)
	require.Equal(t, 1, commit(t, s, batch("n1", 1, 2)).Jobs)
	again := taken(t, s, "w2", time.Minute, 10)
	require.Len(t, again, 1)
	require.Equal(t, old == again[0], !finish(t, s, "w1", old, "{}", ""), "the job of the deleted record is over where its id was given anew")
	found, err := s.JobRecord(t.Context(), again[0])
	require.NoError(t, err)
	require.Equal(t, "n1-2", found.Task.EventID)
	_, err = s.write.ExecContext(t.Context(), `DELETE FROM records`)
	require.NoError(t, err)
	other := batch("n1", 1, 3)
	other.Records[0].Task.Class.Name = "camera"
	require.Zero(t, commit(t, s, other).Jobs)
	found, err = s.JobRecord(t.Context(), again[0])
	require.NoError(t, err)
	require.Nil(t, found, "a job computes on no other record")
}

func testClockSetBack(t *testing.T, s *Store) {
	commit(t, withModel(s), batch("n1", 1, 1))
	record := taken(t, s, "w1", time.Minute, 10)
	require.Len(t, record, 1)
	_, err := s.write.ExecContext(t.Context(), `UPDATE jobs SET due = due + 86400000000000`) // as if the clock had been set back by a day
	require.NoError(t, err)
	require.Equal(t, record, taken(t, s, "w2", time.Minute, 10))
}

// Many workers of several processes share the jobs: each job is taken once.
func TestManyWorkersShareTheJobs(t *testing.T) {
	const records, workers = 400, 8
	test := func(t *testing.T, dsn string, processes int) {
		stores := make([]*Store, processes)
		for i := range stores {
			stores[i] = open(t, dsn, Options{})
		}
		withModel(stores[0])
		for seq := uint64(1); seq <= records; seq += 100 {
			b := batch("n1", 1)
			for n := range uint64(100) {
				b.Records = append(b.Records, Record{Sequence: seq + n, Task: whole(fmt.Sprintf("n1-%d", seq+n))})
			}
			commit(t, stores[0], b)
		}
		var mu sync.Mutex
		had := map[int64]int{}
		var running sync.WaitGroup
		for n := range workers {
			running.Go(func() {
				s := stores[n%processes]
				for {
					jobs, err := s.TakeJobs(t.Context(), fmt.Sprint("w", n), "bearing", time.Minute, 7)
					if err != nil || len(jobs) == 0 {
						if err != nil {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					for _, j := range jobs {
						had[j.Record]++
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()
		require.Len(t, had, records)
		for record, times := range had {
			require.Equal(t, 1, times, "record %d", record)
		}
	}
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), 2) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Start(t, "fsync=off").Database(t), 3) })
}

// A database of version 2 gets the jobs table and keeps its content.
func TestDatabasesOfTheSecondVersionAreMigrated(t *testing.T) {
	test := func(t *testing.T, dsn string) {
		s := open(t, dsn, Options{})
		commit(t, s, batch("n1", 1, 1, 2))
		for _, statement := range []string{`DROP VIEW results`, `DROP TABLE jobs`, `UPDATE offload_schema SET version = 2`} { // the table includes its indexes
			_, err := s.write.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		require.NoError(t, s.Close())
		_, err := Open(t.Context(), dsn, Options{MustExist: true})
		require.ErrorContains(t, err, "version 2")
		s = withModel(open(t, dsn, Options{}))
		require.Equal(t, 1, commit(t, s, batch("n1", 1, 2, 3)).Jobs)
		require.Equal(t, 3, count(t, s, "records"))
		require.Equal(t, 1, count(t, s, "jobs"))
	}
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Start(t, "fsync=off").Database(t)) })
}

// A database of version 3 keeps its jobs, the ids of their results, and the mark of the last settlement.
func TestDatabasesOfTheThirdVersionAreMigrated(t *testing.T) {
	test := func(t *testing.T, dsn, unnumbered string) {
		s := withModel(open(t, dsn, Options{}))
		commit(t, s, batch("n1", 1, 1))
		record := taken(t, s, "w1", time.Minute, 10)[0]
		require.True(t, finish(t, s, "w1", record, "{}", ""))
		for _, statement := range []string{
			`DROP INDEX jobs_failed`, `DROP INDEX jobs_given_up`, `ALTER TABLE jobs DROP COLUMN retries`, `UPDATE offload_schema SET version = 3`,
			unnumbered, `DROP INDEX jobs_number`, `ALTER TABLE jobs DROP COLUMN number`,
		} {
			_, err := s.write.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		require.NoError(t, s.Close())
		s = open(t, dsn, Options{})
		a := answers(t, s)
		require.Len(t, a, 1)
		require.Regexp(t, `^\d+-[0-9a-f]{16}$`, a[0].ID)
		mark, err := s.Settled(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, a[0].At.UnixNano(), mark.Answered)
	}
	t.Run("sqlite", func(t *testing.T) {
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), `DROP TRIGGER offload_number`)
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, pgtest.Start(t, "fsync=off").Database(t), `DROP FUNCTION offload_number CASCADE`)
	})
}

// A worker that hangs while it takes jobs blocks no other jobs, and its session ends with its locks.
func TestAHungWorkerHoldsUpNoOther(t *testing.T) {
	dsn := pgtest.Start(t, "fsync=off").Database(t)
	hung := withModel(open(t, dsn, Options{}))
	commit(t, hung, batch("n1", 1, 1, 2))
	worker := open(t, dsn+"&idle_in_transaction_session_timeout=500ms", Options{MustExist: true, Works: true})
	var set string
	require.NoError(t, worker.read.QueryRowContext(t.Context(), `SHOW lock_timeout`).Scan(&set))
	require.Equal(t, "3s", set)
	tx, err := worker.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback() //nolint:errcheck // it ends by itself
	_, err = takeWith(t.Context(), tx, worker.take(`state = 0 AND model = $4`, "record"), "bearing", 1, "hung", int64(time.Minute), "bearing")
	require.NoError(t, err)
	require.Len(t, taken(t, hung, "w2", time.Minute, 10), 1, "the other job")
	for began := time.Now(); len(taken(t, hung, "w2", time.Minute, 10)) == 0; time.Sleep(50 * time.Millisecond) {
		require.Less(t, time.Since(began), time.Minute)
	}
}

// The id of a result identifies its record; invalid ids are left out, whichever part is wrong.
func TestTheNamesOfResults(t *testing.T) {
	var all []ConfirmedResult
	for _, id := range []string{
		resultID(7, -1, 0), resultID(3, 1<<62, 2), resultID(7, 5, 1), "", "1", "x-1", "1-x", "1-1-x", "1-1-", "1-", "-1", "1-1-1-1", "9223372036854775808-1",
		"1-10000000000000000", "1-1-2147483648", "another's",
	} {
		all = append(all, ConfirmedResult{ID: id, Refused: "late\x00"})
	}
	require.Equal(t, []confirmation{
		{3, 1 << 62, 2, "n1", "late\uFFFD"}, {7, -1, 0, "n1", "late\uFFFD"}, {7, 5, 1, "n1", "late\uFFFD"},
	}, confirmations([]*Confirmed{{Node: "n1", Results: all}}))
	require.Equal(t, "7-ffffffffffffffff", resultID(7, -1, 0))
	require.Equal(t, "7-0000000000000005-1", resultID(7, 5, 1))
}
