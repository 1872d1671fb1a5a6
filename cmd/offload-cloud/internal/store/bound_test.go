package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
)

// pause is a database in which a transaction stops after it has stored its records, until it is released.
type pause struct {
	dialect
	there, goOn chan struct{}
}

func (p pause) insert(ctx context.Context, tx *transaction, rows []*row) error {
	err := p.dialect.insert(ctx, tx, rows)
	close(p.there)
	<-p.goOn
	return err
}

func paused(s *Store) (*Store, pause) {
	p := pause{s.dialect, make(chan struct{}), make(chan struct{})}
	return &Store{write: s.write, read: s.read, opts: s.opts, dialect: p}, p
}

func listed(t *testing.T, s *Store, after int64, limit int) (names []string, last int64) {
	t.Helper()
	first, err := s.First(t.Context(), Filter{After: after, Limit: limit})
	require.NoError(t, err)
	last = after
	for _, f := range first {
		names, last = append(names, f.Task.EventID), f.ID
	}
	return names, last
}

// An event whose writer commits after later ones must not be skipped by readers that continue after the last id they saw.
func TestNothingAboveAnOpenWriterIsListed(t *testing.T) {
	s := open(t, pgtest.Start(t, "fsync=off").Database(t), Options{})
	commit(t, s, batch("n1", 1, 1, 2))
	slow, p := paused(s)
	done := make(chan error, 1)
	go func() {
		_, err := slow.Commit(t.Context(), &Group{Batches: []*Batch{batch("n2", 1, 1)}})
		done <- err
	}()
	<-p.there
	commit(t, s, batch("n3", 1, 1))
	names, last := listed(t, s, 0, 10)
	require.Equal(t, []string{"n1-1", "n1-2"}, names)
	close(p.goOn)
	require.NoError(t, <-done)
	names, last = listed(t, s, last, 10)
	require.Equal(t, []string{"n2-1", "n3-1"}, names)

	// The same holds for a foreign writer, and for a writer that rolls back.
	foreign, err := s.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = foreign.ExecContext(t.Context(), `INSERT INTO records (stream, sequence, node, event_id, chunk, parts, content, class, device, source, resource,
		origin, stored, meta, data) SELECT stream, 77, node, event_id, chunk, parts, 77, class, device, source, resource, origin, stored, meta, data FROM records LIMIT 1`)
	require.NoError(t, err)
	commit(t, s, batch("n3", 1, 2))
	names, last = listed(t, s, last, 10)
	require.Empty(t, names)
	require.NoError(t, foreign.Rollback())
	names, _ = listed(t, s, last, 10)
	require.Equal(t, []string{"n3-2"}, names)
}

// Many writers commit while a reader reads page by page: it sees each event once, in one order.
func TestReadersMissNothingAmongManyWriters(t *testing.T) {
	s := open(t, pgtest.Start(t, "fsync=off").Database(t)+"&pool_max_conns=8", Options{})
	const writers, rounds = 4, 40
	var writing sync.WaitGroup
	ended := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				g := &Group{Batches: []*Batch{batch(fmt.Sprint("w", w), 1, uint64(2*i+1), uint64(2*i+2))}}
				if _, err := s.Commit(context.Background(), g); err != nil {
					t.Errorf("storing: %v", err)
				}
			}
		})
	}
	go func() { writing.Wait(); close(ended) }()
	seen, last, over := map[string]int{}, int64(0), false
	for !over {
		select {
		case <-ended:
			over = true // once more, since all is committed now
		default:
		}
		for names := []string{""}; len(names) > 0; {
			names, last = listed(t, s, last, 7)
			for _, name := range names {
				seen[name]++
			}
		}
	}
	require.Len(t, seen, 2*writers*rounds)
}

// A row locked by another session soon ends the wait of a transaction, with an error that does not blame the group.
func TestALockedRowBlocksForAWhile(t *testing.T) {
	dsn := pgtest.Start(t, "fsync=off").Database(t)
	s := open(t, dsn+"&lock_timeout=50ms", Options{})
	commit(t, s, batch("n1", 1, 1))
	holder, err := s.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), `SELECT * FROM nodes FOR UPDATE`)
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 1, 2)}})
	locked, slow := s.Blocked(err)
	require.Equal(t, []bool{true, false}, []bool{locked, slow}, "%v", err)
	require.False(t, s.Permanent(err))
	require.ErrorContains(t, err, "n1", "it names whose row it is")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.Commit(ctx, &Group{Batches: []*Batch{batch("n1", 1, 2)}})
	locked, slow = s.Blocked(err)
	require.Equal(t, []bool{false, true}, []bool{locked, slow}, "%v", err)
	require.NoError(t, holder.Rollback())
	locked, slow = s.Blocked(errors.New("other"))
	require.Equal(t, []bool{false, false}, []bool{locked, slow})

	// The server ends a session that hangs in a transaction.
	hung := open(t, dsn+"&idle_in_transaction_session_timeout=100ms", Options{})
	holder, err = hung.write.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), `SELECT * FROM nodes FOR UPDATE`)
	require.NoError(t, err)
	patient := open(t, dsn, Options{})
	require.Len(t, commit(t, patient, batch("n1", 1, 2)).Fresh, 1)
	var timeout string
	require.NoError(t, patient.write.QueryRowContext(t.Context(), `SHOW idle_in_transaction_session_timeout`).Scan(&timeout))
	require.Equal(t, "20s", timeout)
	_ = holder.Rollback()
}
