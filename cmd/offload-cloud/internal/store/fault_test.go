package store

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
)

// A full disk must fail the commit, keep the stored records, and let the commit succeed once there is room.
func TestFullDiskPasses(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	commit(t, s, batch("n1", 1, 1))
	limit := func(pages int) {
		var now int
		require.NoError(t, s.write.QueryRowContext(t.Context(), "PRAGMA max_page_count = "+strconv.Itoa(pages)).Scan(&now))
	}
	limit(1) // SQLite takes the present size as the smallest limit
	large := batch("n1", 1, 2)
	large.Records[0].Task.Data = make([]byte, 1<<20)
	_, err := s.Commit(t.Context(), &Group{Batches: []*Batch{large}})
	require.ErrorContains(t, err, "full")
	require.False(t, s.Permanent(err))
	require.Equal(t, 1, count(t, s, "records"))
	limit(1 << 20)
	require.Len(t, commit(t, s, large).Fresh, 1)
}

// A group of only confirmations fails like every other group if the nodes' rows are unavailable.
func TestConfirmationsAloneFailInOrder(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	_, err := s.write.ExecContext(t.Context(), `ALTER TABLE nodes RENAME TO away`)
	require.NoError(t, err)
	g := &Group{Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: "1-1"}}}, {Node: "n2"}}}
	_, err = s.Commit(t.Context(), g)
	require.ErrorContains(t, err, "locking the rows of nodes that confirm results")
	require.False(t, s.Permanent(err))
	g.Batches = []*Batch{batch("n3", 1, 1)}
	_, err = s.Commit(t.Context(), g)
	require.ErrorContains(t, err, "locking the rows of node n3")
	g.Batches = append(g.Batches, batch("n4", 1, 1))
	_, err = s.Commit(t.Context(), g)
	require.ErrorContains(t, err, "locking the rows of 2 streams, the first of node n3")
}

// A panic ends its transaction: it propagates, and the next transaction can begin.
func TestAPanicEndsItsTransaction(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	require.PanicsWithValue(t, "oops", func() {
		_ = s.inTx(t.Context(), func(context.Context, *sql.Tx) error { panic("oops") })
	})
	commit(t, s, batch("n1", 1, 1))
}

// A file that is removed, moved or replaced while it is open would get records that the next start does not find: they are not reported as stored.
func TestAFileThatIsMovedStoresNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s := open(t, "sqlite:"+path, Options{})
	commit(t, s, batch("n1", 1, 1))
	refused := func() {
		t.Helper()
		_, err := s.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 1, 2)}})
		require.ErrorContains(t, err, path)
		require.False(t, s.Permanent(err))
		require.ErrorContains(t, s.Ping(t.Context()), path)
	}
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, os.Rename(path, path+".old"))
	refused()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	refused()
	require.NoError(t, os.Rename(path+".old", path))
	commit(t, s, batch("n1", 1, 2))
	err := s.inTx(t.Context(), func(context.Context, *sql.Tx) error { return os.Remove(path) })
	require.ErrorContains(t, err, path, "meanwhile")
}

// asked counts the registrations for the end of a context.
type asked struct {
	context.Context
	times atomic.Int64
}

func (a *asked) Done() <-chan struct{} {
	a.times.Add(1)
	return a.Context.Done()
}

// The driver starts a goroutine for each statement whose context can end. A group has thousands of statements.
func TestRowsOfATransactionNeedNoGoroutineEach(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asks := func(seqs ...uint64) int64 {
		a := &asked{Context: ctx}
		_, err := s.Commit(a, &Group{Batches: []*Batch{batch("n1", 1, seqs...)}})
		require.NoError(t, err)
		return a.times.Load()
	}
	asks(1)
	few := asks(2, 4)
	seqs := make([]uint64, 500) // with as many ranges
	for i := range seqs {
		seqs[i] = uint64(10 + 2*i)
	}
	require.LessOrEqual(t, asks(seqs...), few+5)
}

// A stop must not wait for all rows of a group, and nothing of the group may remain.
func TestStopEndsATransaction(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err := s.inTx(ctx, func(inside context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(inside, `INSERT INTO nodes (name) VALUES ('n1')`)
		require.NoError(t, err)
		cancel()
		for err == nil { // the rollback happens in the background
			_, err = tx.ExecContext(inside, `INSERT INTO nodes (name) VALUES ('n2') ON CONFLICT DO NOTHING`)
		}
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, sql.ErrTxDone)
	require.Equal(t, 0, count(t, s, "nodes"))
}

// Sessions ended by the server, as in its restart, must fail at most a few commits and store nothing twice.
func TestLostSessionsPass(t *testing.T) {
	s := open(t, pgtest.Start(t, "fsync=off").Database(t), Options{})
	commit(t, s, batch("n1", 1, 1))
	_, err := s.read.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'offload-cloud' AND pid <> pg_backend_pid()`)
	require.NoError(t, err)
	_, _ = s.read.ExecContext(t.Context(), `SELECT pg_terminate_backend(pg_backend_pid())`) // the answer is the end of the session
	for try := 1; ; try++ {
		result, err := s.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 1, 1, 2)}})
		if err == nil {
			require.Len(t, result.Fresh, 1)
			return
		}
		require.False(t, s.Permanent(err), "%v", err)
		require.Less(t, try, 10, "%v", err)
	}
}

// A session that began while the database was read-only stays read-only: the next attempt uses another one.
func TestASessionThatCannotWriteIsReplaced(t *testing.T) {
	s := open(t, pgtest.Start(t, "fsync=off").Database(t)+"&pool_max_conns=1", Options{})
	_, err := s.write.ExecContext(t.Context(), `SET default_transaction_read_only = on`)
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 1, 1)}})
	require.ErrorContains(t, err, "read-only transaction")
	require.False(t, s.Permanent(err))
	require.Len(t, commit(t, s, batch("n1", 1, 1)).Fresh, 1)
}

// Several consumers on one database: for any concurrent commits, each task is stored once and none blocks another permanently.
func TestConsumersShareADatabase(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	for name, dsn := range map[string]string{"postgres": server.Database(t), "sqlite": "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")} {
		t.Run(name, func(t *testing.T) {
			const workers, rounds, size = 4, 8, 10
			errs := make(chan error, workers)
			for w := range workers {
				s := open(t, dsn, Options{})
				go func() { errs <- commitAll(t, s, w, rounds, size) }()
			}
			for range workers {
				require.NoError(t, <-errs)
			}
			s := open(t, dsn, Options{})
			nodes, err := s.Stats(t.Context())
			require.NoError(t, err)
			require.Len(t, nodes, 3)
			for _, n := range nodes {
				require.Equal(t, int64(rounds*size), n.Tasks)
				require.Equal(t, int64(rounds*size), n.Records)
				require.Equal(t, int64((workers-1)*rounds*size), n.DuplicateRecords)
			}
			require.Equal(t, 3*rounds*size, count(t, s, "records"))
			require.Equal(t, 3, count(t, s, "ranges"))
		})
	}
}

// commitAll stores all records of three nodes, with each worker in a different order.
func commitAll(t *testing.T, s *Store, worker, rounds, size int) error {
	for round := range rounds {
		at := (round*3 + worker*2) % rounds
		g := &Group{}
		for node := range 3 {
			var seqs []uint64
			for i := range size {
				seqs = append(seqs, uint64(at*size+i+1))
			}
			g.Batches = append(g.Batches, batch("n"+strconv.Itoa((node+worker)%3), 1, seqs...))
		}
		if _, err := s.Commit(t.Context(), g); err != nil {
			return err
		}
	}
	return nil
}
