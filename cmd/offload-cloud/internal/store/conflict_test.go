package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

// of sets a session on a batch, and names of its events, which determine their content.
func of(session string, floor uint64, name string, seqs ...uint64) *Batch {
	b := batch("n1", floor, seqs...)
	b.Session = session
	for i := range b.Records {
		b.Records[i].Task = whole(fmt.Sprintf("%s-%d", name, seqs[i]))
	}
	return b
}

func testRestoredSpool(t *testing.T, s *Store) {
	commit(t, s, of("s1", 1, "a", 1, 2, 3, 4, 5))
	restored := of("s2", 1, "a", 3, 4, 5) // the remaining records of the copy
	restored.Records[2].Task = whole("new-5")
	result := commit(t, s, restored)
	require.Equal(t, []Receipt{{
		Node: "n1", Epoch: "e1", Session: "s2", Safe: []ranges.Span{span(3, 4)}, Conflicts: []ranges.Span{span(5, 5)},
	}}, result.Receipts)
	require.Equal(t, 1, result.Conflicts)
	require.Equal(t, 2, result.DuplicateRecords)
	letters, err := s.Letters(t.Context(), 0, 10, true)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, Conflict, letters[0].Reason)
	require.Contains(t, letters[0].Detail, "new-5")

	restored.Epoch = "e2" // the node's reaction
	result = commit(t, s, restored)
	require.Equal(t, []ranges.Span{span(3, 5)}, result.Receipts[0].Safe)
	require.Equal(t, []string{"new-5"}, ids(result))
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{1, 1}, []int64{nodes[0].Conflicts, nodes[0].DeadLetters})
}

func ids(r *Result) (all []string) {
	for _, f := range r.Fresh {
		all = append(all, f.Task.EventID)
	}
	return all
}

func testSessionsOfOneGroup(t *testing.T, s *Store) {
	result := commit(t, s, of("s1", 1, "a", 1, 2), of("s2", 1, "b", 2, 3), of("s1", 1, "a", 3, 4))
	require.Equal(t, []Receipt{
		{Node: "n1", Epoch: "e1", Session: "s1", Safe: []ranges.Span{span(1, 2), span(4, 4)}, Conflicts: []ranges.Span{span(3, 3)}},
		{Node: "n1", Epoch: "e1", Session: "s2", Safe: []ranges.Span{span(3, 3)}, Conflicts: []ranges.Span{span(2, 2)}},
	}, result.Receipts)
	require.Equal(t, []string{"a-1", "a-2", "b-3", "a-4"}, ids(result))
	result = commit(t, s, of("", 1, "c", 11, 12), of("", 1, "d", 12))
	require.Equal(t, []Receipt{
		{Node: "n1", Epoch: "e1", Safe: []ranges.Span{span(11, 11)}, Gaps: result.Receipts[0].Gaps, Conflicts: []ranges.Span{span(12, 12)}},
	}, result.Receipts, "in a receipt for both, the number is safe for neither")
}

// A conflict is reported each time, quarantined once, and never replaces an unreadable record.
func testConflictsAreBounded(t *testing.T, s *Store) {
	commit(t, s, of("s1", 1, "a", 1, 2, 3, 4, 5))
	for range 3 {
		result := commit(t, s, of("s2", 1, "b", 1, 2, 3, 4, 5))
		require.Equal(t, []ranges.Span{span(1, 5)}, result.Receipts[0].Conflicts)
		require.Empty(t, result.Receipts[0].Safe)
	}
	require.Equal(t, 3, count(t, s, "dead_letters"))
	b := of("s1", 1, "a", 6)
	b.Records[0] = Record{Sequence: 6, Raw: []byte("rubbish"), Problem: "x"}
	require.Equal(t, 1, commit(t, s, b).DeadRecords)
	require.Equal(t, 4, count(t, s, "dead_letters"))
}

func testConflictsOfDeadRecords(t *testing.T, s *Store) {
	dead := func(seq uint64, raw string) *Batch {
		b := of("s1", 1, "a", seq)
		b.Records[0] = Record{Sequence: seq, Raw: []byte(raw), Problem: "x"}
		return b
	}
	commit(t, s, dead(1, "one"))
	require.Equal(t, []ranges.Span{span(1, 1)}, commit(t, s, dead(1, "one")).Receipts[0].Safe)
	require.Equal(t, []ranges.Span{span(1, 1)}, commit(t, s, dead(1, "other")).Receipts[0].Conflicts)
	require.Equal(t, []string{"a-1"}, ids(commit(t, s, of("s1", 1, "a", 1))), "it became readable")
	require.Equal(t, []ranges.Span{span(1, 1)}, commit(t, s, of("s1", 1, "b", 1)).Receipts[0].Conflicts)
	commit(t, s, of("s1", 1, "a", 2))
	require.Equal(t, []ranges.Span{span(2, 2)}, commit(t, s, dead(2, "one")).Receipts[0].Conflicts)

	// A sequence whose task is stored under another sequence also has content.
	again := of("s1", 1, "a", 3)
	again.Records[0].Task = whole("a-2")
	require.Equal(t, 1, commit(t, s, again).DuplicateTasks)
	require.Equal(t, 1, commit(t, s, again).DuplicateRecords)
	require.Equal(t, []ranges.Span{span(3, 3)}, commit(t, s, of("s1", 1, "b", 3)).Receipts[0].Conflicts)

	// A record that a node dropped may arrive after all, and a sequence dropped by one session may be another session's record.
	_, err := s.Commit(t.Context(), &Group{Gone: []*Gone{{Node: "n1", Epoch: "e1", Spans: []ranges.Span{{First: 1, Last: 9, Fate: "expired"}}}}})
	require.NoError(t, err)
	require.Equal(t, []string{"b-9"}, ids(commit(t, s, of("s2", 1, "b", 9))))
	require.Equal(t, []ranges.Span{span(9, 9)}, commit(t, s, of("s1", 1, "a", 9)).Receipts[0].Conflicts)
}

// A row deleted by an operator leaves its sequence behind: a record with that sequence is stored, since nothing proves that it is a repetition.
func testForgottenRows(t *testing.T, s *Store) {
	commit(t, s, of("", 1, "a", 1, 2))
	_, err := s.write.ExecContext(t.Context(), `DELETE FROM records WHERE sequence = 1`)
	require.NoError(t, err)
	result := commit(t, s, of("", 1, "b", 1, 2))
	require.Equal(t, []string{"b-1"}, ids(result))
	require.Equal(t, []ranges.Span{span(2, 2)}, result.Receipts[0].Conflicts)
}

// A reader that continues after the last id misses no record, although an operator has deleted all of them.
func testIDsAscend(t *testing.T, s *Store) {
	commit(t, s, of("", 1, "a", 1, 2, 3))
	all, err := s.First(t.Context(), Filter{Limit: 10})
	require.NoError(t, err)
	last := all[len(all)-1].ID
	_, err = s.write.ExecContext(t.Context(), `DELETE FROM records`)
	require.NoError(t, err)
	commit(t, s, of("", 1, "a", 4))
	after, err := s.First(t.Context(), Filter{After: last, Limit: 10})
	require.NoError(t, err)
	require.Len(t, after, 1)
	require.Equal(t, "a-4", after[0].Task.EventID)
}

// The statement that the documentation recommends deletes old records, and keeps those with an open job.
func testDeletingOldRecords(t *testing.T, s *Store) {
	commit(t, s, batch("n1", 1, 1))
	commit(t, withModel(s), batch("n1", 1, 2)) // with an open job
	s.SetModels(nil)
	commit(t, s, batch("n1", 1, 3), batch("n1", 1, 4))
	_, err := s.write.ExecContext(t.Context(), `UPDATE records SET stored = stored - 2592000000000001 WHERE sequence < 3`)
	require.NoError(t, err)
	text, err := os.ReadFile("../../../../res/OPERATING.md")
	require.NoError(t, err)
	_, statement, _ := strings.Cut(string(text), "```sql\n")
	statement, _, _ = strings.Cut(statement, "```")
	result, err := s.write.ExecContext(t.Context(), statement)
	require.NoError(t, err)
	deleted, err := result.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted)
}

// The same event id, chunk and data prove nothing if the device or the chunk's place in its event differs.
func testOneIDManyDevices(t *testing.T, s *Store) {
	change := []func(*task.Task){
		func(*task.Task) {}, func(t *task.Task) { t.Device = "d2" }, func(t *task.Task) { t.Device = "d3" },
		func(t *task.Task) { t.Source = "other" }, func(t *task.Task) { t.Profile = "other" }, func(t *task.Task) { t.Offset = 4 },
		func(t *task.Task) { t.Resource = "other" }, func(t *task.Task) { t.Type = task.Float32 }, func(t *task.Task) { t.Encoding = task.Text },
		func(t *task.Task) { t.Holes = []task.Hole{{Resource: "wave"}} }, func(t *task.Task) { t.Holes = []task.Hole{{Resource: "w"}} },
		func(t *task.Task) { t.Holes = []task.Hole{{At: 1}} }, func(t *task.Task) { t.Holes = []task.Hole{{Length: 1}} },
		func(t *task.Task) { t.Holes = []task.Hole{{Encoding: task.Text}} }, func(t *task.Task) { t.Holes = make([]task.Hole, 2) }, func(t *task.Task) { t.Hole = 1 },
		func(t *task.Task) { t.Count = 1 }, func(t *task.Task) { t.Chunk = 1 }, func(t *task.Task) { t.Of = 2 }, func(t *task.Task) { t.Origin++ },
	}
	again := func(first uint64) *Batch {
		b := batch("n1", 1)
		for i, f := range change {
			one := whole("same")
			f(one)
			b.Records = append(b.Records, Record{Sequence: first + uint64(i), Task: one})
		}
		return b
	}
	result := commit(t, s, again(1))
	require.Len(t, result.Fresh, len(change))
	second := again(100)
	for i := range second.Records {
		one := second.Records[i].Task
		one.Received, one.Score, one.Policy, one.Critical, one.Class = 99, 0.5, "other", true, &task.Class{Name: "other"}
	}
	require.Equal(t, len(change), commit(t, s, second).DuplicateTasks, "what is decided about an event is not what it holds")
}

// The floor of a node never falls: a batch that was overtaken has an older floor.
func testFloorNeverFalls(t *testing.T, s *Store) {
	commit(t, s, of("s1", 7, "a", 7))
	require.Equal(t, []ranges.Span{span(1, 4), span(6, 6)}, commit(t, s, of("s1", 3, "a", 5)).Receipts[0].Gaps)
	nodes, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(5), nodes[0].Gaps)
	require.Empty(t, commit(t, s, of("restored", 1, "b", 8)).Receipts[0].Gaps, "another session knows nothing above its own floor")
	require.Equal(t, []ranges.Span{span(1, 3)}, commit(t, s, of("restored", 4, "b", 9)).Receipts[0].Gaps)
	require.Equal(t, []ranges.Span{span(1, 4)}, commit(t, s, of("restored", 6, "b", 9)).Receipts[0].Gaps, "a gap below it ends where it ends")
	commit(t, s, of("", 20, "a", 20))
	require.Equal(t, []ranges.Span{span(1, 4), span(6, 6), span(11, 19)}, commit(t, s, of("restored", 4, "b", 10)).Receipts[0].Gaps, "no session is known to have named the floor")
}

// Whatever copies of one spool send, in any order, each record receipted to a session is stored with its content.
func TestNothingIsReceiptedAsSomethingElse(t *testing.T) {
	stores := map[string]*Store{"sqlite": open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})}
	stores["postgres"] = open(t, pgtest.Start(t, "fsync=off").Database(t), Options{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, s := range stores {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				g := &Group{}
				for range 1 + r.IntN(4) {
					session := fmt.Sprint("s", r.IntN(3))
					b := of(session, 1, session)
					for range 1 + r.IntN(8) {
						seq := 1 + r.Uint64N(40)
						rec := Record{Sequence: seq, Task: whole(fmt.Sprintf("%s-%d", []string{session, "common"}[r.IntN(2)], seq))}
						if r.IntN(8) == 0 {
							rec = Record{Sequence: seq, Raw: []byte(session), Problem: "x"}
						}
						b.Records = append(b.Records, rec)
					}
					g.Batches = append(g.Batches, b)
				}
				result, err := s.Commit(t.Context(), g)
				require.NoError(t, err)
				requireSafe(t, s, g, result)
			}
		})
	}
}

// requireSafe compares the receipts with the tables.
func requireSafe(t *testing.T, s *Store, g *Group, result *Result) {
	t.Helper()
	for _, b := range g.Batches {
		for _, r := range b.Records {
			var n int
			if r.Task != nil {
				require.NoError(t, s.read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM records WHERE event_id = $1`, r.Task.EventID).Scan(&n))
			} else {
				require.NoError(t, s.read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM dead_letters WHERE raw = $1 AND sequence = $2`,
					r.Raw, int64(r.Sequence)).Scan(&n))
			}
			for _, receipt := range result.Receipts {
				_, safe := ranges.Of(receipt.Safe...).Fate(r.Sequence)
				require.False(t, safe && n == 0 && receipt.Session == b.Session, "%s %d", b.Session, r.Sequence)
			}
		}
	}
}
