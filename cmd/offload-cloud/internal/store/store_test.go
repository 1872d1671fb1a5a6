package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

func open(t testing.TB, dsn string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// All tests run on both databases. One server serves all tests, since its start takes seconds.
var storeTests = map[string]func(t *testing.T, s *Store){
	"a record is stored once and receipted each time": testOnce,
	"a task under another sequence is stored once":    testTaskOnce,
	"the same id with other content is kept":          testConflict,
	"a restored spool's new records are conflicts":    testRestoredSpool,
	"each session gets a receipt of its own":          testSessionsOfOneGroup,
	"conflicts are quarantined within bounds":         testConflictsAreBounded,
	"unreadable and repeated records have content":    testConflictsOfDeadRecords,
	"old records may be deleted":                      testDeletingOldRecords,
	"an id is not used again":                         testIDsAscend,
	"a forgotten row proves nothing":                  testForgottenRows,
	"one id of many devices is many events":           testOneIDManyDevices,
	"the floor never falls":                           testFloorNeverFalls,
	"gaps are named until filled or explained":        testGaps,
	"lanes may overtake each other":                   testLanes,
	"what is gone may still come":                     testGoneComes,
	"an undecodable record is quarantined":            testDeadRecord,
	"an unfit name is quarantined":                    testUnfit,
	"letters are kept once, counted and bounded":      testLetters,
	"a letter may be empty":                           testAnEmptyLetter,
	"what is complete is remembered":                  testWhatIsComplete,
	"a failed commit leaves nothing":                  testRollback,
	"events are listed once, in order":                testEvents,
	"the figures add up":                              testStats,
	"the figures are of one moment":                   testStatsOfOneMoment,
	"a record of a class with a model is one job":     testJobs,
	"a lease ends, and with it the right to answer":   testLeases,
	"what ended a worker is taken alone":              testRetriesAreTakenAlone,
	"answers are published until confirmed":           testAnswers,
	"a node that is gone is given up":                 testGivenUp,
	"a retried job has a new result":                  testARetriedJobHasANewResult,
	"a late chunk begins the job anew":                testALateChunkBeginsTheJobAnew,
	"a chunk that comes while it is found missing":    testAChunkThatComesWhileItIsFoundMissing,
	"chunks that are gone":                            testChunksThatAreGone,
	"answers that are never confirmed":                testAnswersThatAreNeverConfirmed,
	"answers of a node that was away":                 testAnswersOfANodeThatWasAway,
	"a job without an answer has a reason":            testFailedJobs,
	"a clock that was set back delays no job":         testClockSetBack,
	"an id that was used before gets its job":         testIDUsedBefore,
	"what nodes have used is counted once":            testUsed,
}

func TestStoreOnSQLite(t *testing.T) {
	for name, test := range storeTests {
		t.Run(name, func(t *testing.T) {
			test(t, open(t, "sqlite:"+filepath.Join(t.TempDir(), "a b%c?.db"), Options{DeadCount: 3}))
		})
	}
}

func TestStoreOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	for name, test := range storeTests {
		t.Run(name, func(t *testing.T) { test(t, open(t, server.Database(t), Options{DeadCount: 3})) })
	}
}

// Half of the connections are left to readers, and the number of concurrent transactions is limited.
func TestLanes(t *testing.T) {
	require.Equal(t, 1, open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{}).Lanes())
	dsn := pgtest.Start(t, "fsync=off").Database(t)
	for set, want := range map[string]int{"": 4, "&pool_max_conns=1": 1, "&pool_max_conns=3": 1, "&pool_max_conns=4": 2, "&pool_max_conns=9": 4, "&pool_max_conns=20": 4} {
		require.Equal(t, want, open(t, dsn+set, Options{}).Lanes(), set)
	}
}

// After a repeated task, later commits expect more of them, until carefulMax commits met none.
func TestRepeatedTasksAreExpectedForAWhile(t *testing.T) {
	s := open(t, pgtest.Start(t, "fsync=off").Database(t), Options{})
	seq := uint64(0)
	again := func(id string) int {
		seq++
		b := batch("n1", 1, seq)
		b.Records[0].Task = whole(id)
		commit(t, s, b)
		return int(s.careful.Load())
	}
	require.Zero(t, again("a"))
	require.Equal(t, carefulMax, again("a"))
	require.Equal(t, carefulMax, again("a"))
	require.Equal(t, carefulMax-1, again("b"))
	require.Equal(t, carefulMax-1, again("b"))
	for left := carefulMax - 2; left >= 0; left-- {
		require.Equal(t, left, again(fmt.Sprint("c", left)))
	}
	require.Zero(t, again("d"))
}

// whole returns an event of its own, distinguished by its id.
func whole(id string) *task.Task {
	return &task.Task{
		EventID: id, Device: "pump-1", Profile: "pump", Source: "state", Origin: 7, Received: 8, Of: 1,
		Class: &task.Class{Name: "default", Priority: 3}, Encoding: task.JSON, Data: []byte(`{"id":"` + id + `"}`),
	}
}

func batch(node string, floor uint64, seqs ...uint64) *Batch {
	b := &Batch{Node: node, Epoch: "e1", Floor: floor}
	for _, seq := range seqs {
		b.Records = append(b.Records, Record{Sequence: seq, Task: whole(fmt.Sprintf("%s-%d", node, seq))})
	}
	return b
}

func commit(t testing.TB, s *Store, batches ...*Batch) *Result {
	t.Helper()
	result, err := s.Commit(t.Context(), &Group{Batches: batches})
	require.NoError(t, err)
	return result
}

func span(first, last uint64) ranges.Span { return ranges.Span{First: first, Last: last} }

// count counts the rows of a table, independent of the counters.
func count(t testing.TB, s *Store, table string) (n int) {
	t.Helper()
	require.NoError(t, s.read.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

func testOnce(t *testing.T, s *Store) {
	result := commit(t, s, batch("n1", 1, 1, 2, 3))
	require.Equal(t, []Receipt{{Node: "n1", Epoch: "e1", Safe: []ranges.Span{span(1, 3)}}}, result.Receipts)
	require.Len(t, result.Fresh, 3)

	result = commit(t, s, batch("n1", 1, 2, 3, 4), batch("n1", 1, 4))
	require.Equal(t, []ranges.Span{span(2, 4)}, result.Receipts[0].Safe, "what comes again is receipted again")
	require.Equal(t, 3, result.DuplicateRecords)
	require.Len(t, result.Fresh, 1)
	require.Equal(t, 4, count(t, s, "records"))
	require.Equal(t, 1, count(t, s, "ranges"), "a stream without loss is one span")
}

func testTaskOnce(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1, 2))
	again := batch("n1", 1, 7)
	again.Epoch, again.Records[0].Task = "e2", whole("n1-2")
	again.Records = append(again.Records, Record{Sequence: 8, Task: whole("new")}, Record{Sequence: 9, Task: whole("new")})
	result := commit(t, s, again)
	require.Equal(t, []ranges.Span{span(7, 9)}, result.Receipts[0].Safe)
	require.Equal(t, 2, result.DuplicateTasks, "one was stored before, one stands twice in the batch")
	require.Equal(t, 3, count(t, s, "records"))

	commit(t, s, batch("n2", 1, 1))
	other := batch("n2", 1, 2)
	other.Records[0].Task = whole("n1-2")
	require.Zero(t, commit(t, s, other).DuplicateTasks, "another node's event of that id is another event")
}

func testConflict(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1))
	other := batch("n1", 1, 2)
	other.Records[0].Task = whole("n1-1")
	other.Records[0].Task.Data = []byte(`{"other":true}`)
	require.Zero(t, commit(t, s, other).DuplicateTasks)
	require.Equal(t, 2, count(t, s, "records"))
}

func testGaps(t *testing.T, s *Store) {
	require.Empty(t, commit(t, s, batch("n1", 1, 1, 2, 6)).Receipts[0].Gaps, "3–5 are above the floor and may still arrive")
	require.Equal(t, []ranges.Span{span(3, 5)}, commit(t, s, batch("n1", 7, 7)).Receipts[0].Gaps)
	require.Equal(t, []ranges.Span{span(3, 3), span(5, 5)}, commit(t, s, batch("n1", 7, 4)).Receipts[0].Gaps)

	result, err := s.Commit(t.Context(), &Group{Gone: []*Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{
		{First: 3, Last: 4, Fate: "expired"}, {First: 6, Last: 6, Fate: "done"},
	}}}})
	require.NoError(t, err)
	require.Equal(t, []Receipt{{Node: "n1", Epoch: "e1", Gaps: []ranges.Span{span(5, 5)}}}, result.Receipts)
	require.Empty(t, commit(t, s, batch("n1", 7, 5)).Receipts[0].Gaps)

	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"expired": 1}, nodes[0].Gone, "a stored record cannot be gone")
	require.Equal(t, int64(6), nodes[0].Records)
}

func testLanes(t *testing.T, s *Store) {
	var even, odd []uint64
	for i := uint64(1); i <= 600; i += 2 {
		odd, even = append(odd, i), append(even, i+1)
	}
	require.Empty(t, commit(t, s, batch("n1", 1, even...)).Receipts[0].Gaps)
	require.Equal(t, len(even), count(t, s, "ranges"))
	far := commit(t, s, batch("n1", 1, 1_000_000), batch("n1", 1, 1))
	require.Equal(t, []ranges.Span{span(1, 1), span(1_000_000, 1_000_000)}, far.Receipts[0].Safe)
	require.Empty(t, commit(t, s, batch("n1", 601, odd...)).Receipts[0].Gaps)
	require.Equal(t, 2, count(t, s, "ranges"))
	gaps := commit(t, s, batch("n1", 1_000_001, 1_000_001)).Receipts[0].Gaps
	require.Equal(t, []ranges.Span{span(601, 999_999)}, gaps)
}

func testGoneComes(t *testing.T, s *Store) {
	_, err := s.Commit(t.Context(), &Group{Gone: []*Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{{First: 1, Last: 9, Fate: "dropped"}}}}})
	require.NoError(t, err)
	result := commit(t, s, batch("n1", 10, 5, 10))
	require.Len(t, result.Fresh, 2)
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"dropped": 8}, nodes[0].Gone)
	require.Equal(t, int64(2), nodes[0].Records)
}

func testDeadRecord(t *testing.T, s *Store) {
	b := batch("n1", 1, 1, 2, 3)
	b.Records[1] = Record{Sequence: 2, Raw: []byte("rubbish"), Problem: "no such field"}
	result := commit(t, s, b)
	require.Equal(t, 1, result.DeadRecords)
	require.Equal(t, []ranges.Span{span(1, 3)}, result.Receipts[0].Safe, "quarantined is safe: the node need not keep it")
	require.Zero(t, commit(t, s, b).DeadRecords)

	letters, err := s.Letters(t.Context(), 0, 10, true)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, "rubbish", string(letters[0].Raw))
	require.True(t, letters[0].IsRecord)
	require.Equal(t, uint64(2), letters[0].Sequence)

	again := batch("n1", 1, 2) // a newer program can read it
	retried, err := s.Commit(t.Context(), &Group{Batches: []*Batch{again}, Settled: []int64{letters[0].ID}})
	require.NoError(t, err)
	require.Len(t, retried.Fresh, 1)
	require.Zero(t, count(t, s, "dead_letters"))
	require.Equal(t, 3, count(t, s, "records"))
}

func testUnfit(t *testing.T, s *Store) {
	// A NUL at any position of any name.
	for i, name := range []string{"\x00", "\x00begins", "with\x00in", "ends\x00"} {
		for j, set := range []func(*task.Task){
			func(t *task.Task) { t.EventID = name }, func(t *task.Task) { t.Device = name }, func(t *task.Task) { t.Source = name },
			func(t *task.Task) { t.Resource = name }, func(t *task.Task) { t.Class = &task.Class{Name: name} },
		} {
			b := batch("nul", 1, uint64(5*i+j+1))
			set(b.Records[0].Task)
			require.Equal(t, 1, commit(t, s, b).DeadRecords, "%q in field %d", name, j)
		}
	}
	b := batch("n1", 1, 1, 2, 3)
	b.Records[0].Task.Device = "nul\x00"
	b.Records[1].Task.EventID = strings.Repeat("x", 3000)
	result := commit(t, s, b)
	require.Equal(t, 2, result.DeadRecords)
	require.Len(t, result.Fresh, 1)
}

func testLetters(t *testing.T, s *Store) {
	letter := func(raw string) *Letter {
		return &Letter{Topic: "offload/v1/n1/batch/\x00\xff", Node: "n1", Reason: "forged", Detail: "\xffx", Raw: []byte(raw)}
	}
	send := func(l ...*Letter) *Result {
		result, err := s.Commit(t.Context(), &Group{Letters: l})
		require.NoError(t, err)
		return result
	}
	require.Equal(t, 2, send(letter("a"), letter("b"), letter("a")).Letters)
	result := send(letter("a"), letter("c"), letter("d"))
	require.Equal(t, []int{1, 1}, []int{result.Letters, result.LettersRefused})
	letters, err := s.Letters(t.Context(), 0, 10, false)
	require.NoError(t, err)
	require.Len(t, letters, 3)
	require.Equal(t, 3, letters[0].Times)
	require.Nil(t, letters[0].Raw)
	dropped, err := s.DropLetters(t.Context(), []int64{letters[0].ID, letters[1].ID, 999})
	require.NoError(t, err)
	require.Equal(t, int64(2), dropped)
	require.Zero(t, count(t, s, "nodes"), "a message that proves nothing makes no node")
}

func testAnEmptyLetter(t *testing.T, s *Store) {
	for _, raw := range [][]byte{nil, {}} {
		_, err := s.Commit(t.Context(), &Group{Letters: []*Letter{{Topic: "t", Reason: "malformed", Raw: raw}}})
		require.NoError(t, err)
	}
	letters, err := s.Letters(t.Context(), 0, 10, true)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, 2, letters[0].Times)
	require.Empty(t, letters[0].Raw)
}

// The search for gaps begins after the sequences with known fates, whatever their fates.
func testWhatIsComplete(t *testing.T, s *Store) {
	complete := func() (n int64) {
		require.NoError(t, s.read.QueryRowContext(t.Context(), `SELECT complete FROM streams`).Scan(&n))
		return n
	}
	require.Empty(t, commit(t, s, batch("n1", 3, 1, 2)).Receipts[0].Gaps)
	require.EqualValues(t, 2, complete())
	_, err := s.Commit(t.Context(), &Group{Gone: []*Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{{First: 3, Last: 4, Fate: "dropped"}, {First: 5, Last: 5, Fate: "expired"}}}}})
	require.NoError(t, err)
	require.Empty(t, commit(t, s, batch("n1", 7, 6)).Receipts[0].Gaps)
	require.EqualValues(t, 6, complete(), "over several spans")
	require.Len(t, commit(t, s, batch("n1", 11, 7, 9)).Receipts[0].Gaps, 2)
	require.EqualValues(t, 7, complete(), "up to the first gap")
	require.Len(t, commit(t, s, batch("n1", 11, 8)).Receipts[0].Gaps, 1)
	require.EqualValues(t, 9, complete())
	require.Empty(t, commit(t, s, batch("n1", 11, 10)).Receipts[0].Gaps)
	require.EqualValues(t, 10, complete())
}

func testRollback(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1))
	failing := &Store{write: s.write, read: s.read, opts: s.opts, dialect: failInsert{s.dialect}}
	_, err := failing.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 2, 2)}, Letters: []*Letter{{Reason: "x"}}})
	require.ErrorIs(t, err, errFull)
	require.False(t, s.Permanent(err))
	require.Equal(t, 1, count(t, s, "records"))
	require.Len(t, commit(t, s, batch("n1", 1, 2)).Fresh, 1)

	_, err = s.write.ExecContext(t.Context(), `INSERT INTO offload_schema (version) VALUES (NULL)`)
	require.True(t, s.Permanent(err), "a constraint fails each time: %v", err)
}

var errFull = errors.New("disk full")

// failInsert is a database whose disk fills up while records are stored.
type failInsert struct{ dialect }

func (f failInsert) insert(ctx context.Context, tx *transaction, rows []*row) error {
	return errors.Join(f.dialect.insert(ctx, tx, rows), errFull)
}

func testEvents(t *testing.T, s *Store) {
	cut := batch("n1", 1, 1, 2, 3, 4)
	for i, chunk := range []int{2, 0} { // chunk 1 of the first event is missing
		w := whole("cut")
		w.Chunk, w.Of, w.Encoding = chunk, 3, task.Text
		cut.Records[i].Task = w
	}
	cut.Records[1].Task.Holes = []task.Hole{{Resource: "wave", At: 3, Length: 5, Encoding: task.Text}}
	commit(t, s, cut, batch("n2", 1, 1))

	first, err := s.First(t.Context(), Filter{Limit: 10})
	require.NoError(t, err)
	var ids []string
	for _, f := range first {
		ids = append(ids, f.Node+" "+f.Task.EventID)
	}
	require.Equal(t, []string{"n1 cut", "n1 n1-3", "n1 n1-4", "n2 n2-1"}, ids)
	page, err := s.First(t.Context(), Filter{Node: "n1", After: first[1].ID, Limit: 10})
	require.NoError(t, err)
	require.Len(t, page, 1)

	all, err := s.Of(t.Context(), first[0])
	require.NoError(t, err)
	require.Equal(t, []int{0, 2}, []int{all[0].Task.Chunk, all[1].Task.Chunk})
	require.Equal(t, cut.Records[1].Task, all[0].Task, "stored records are read unchanged")
}

// Nodes appear during a query: each node is either complete or absent.
func testStatsOfOneMoment(t *testing.T, s *Store) {
	const nodes = 200
	var coming sync.WaitGroup
	coming.Go(func() {
		for i := range nodes {
			if _, err := s.Commit(t.Context(), &Group{Batches: []*Batch{batch(fmt.Sprint("n", i), 1, 1)}}); err != nil {
				t.Errorf("storing: %v", err)
				return
			}
		}
	})
	defer coming.Wait()
	for seen := 0; seen < nodes && !t.Failed(); {
		all, err := s.Stats(t.Context())
		require.NoError(t, err)
		for _, n := range all {
			require.Equal(t, []int64{1, 1, 1}, []int64{n.Records, n.Tasks, int64(n.Epochs)}, n.Node)
		}
		seen = len(all)
	}
}

func testStats(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1, 2, 3), batch("n2", 5, 5, 8))
	commit(t, s, batch("n2", 12, 8))
	commit(t, s, batch("n1", 6, 1, 9))
	_, err := s.Commit(t.Context(), &Group{Letters: []*Letter{
		{Node: "n2", Reason: "x", Raw: []byte("a")}, {Node: "n2", Reason: "x", Raw: []byte("b")}, {Node: "unknown", Reason: "x"},
	}})
	require.NoError(t, err)
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, nodes, 2)
	require.Equal(t, []int64{0, 2}, []int64{nodes[0].DeadLetters, nodes[1].DeadLetters})
	require.Equal(t, uint64(2), nodes[0].Gaps, "4 and 5, of the first stream; 6–8 are above its floor")
	require.Equal(t, []int64{2, 2, 1}, []int64{nodes[1].Records, nodes[1].Tasks, nodes[1].DuplicateRecords})
	require.Equal(t, uint64(9), nodes[1].Gaps, "1–4, 6, 7 and 9–11, of the last stream")
	require.Equal(t, 6, count(t, s, "tasks"))
}
