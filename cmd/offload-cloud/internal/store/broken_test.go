package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/ranges"
)

var errBroken = errors.New("the disk is broken")

// fault makes one call of a database fail: the one after left - 1 successful calls.
type fault struct {
	left      int
	statement string // that failed
}

func (f *fault) arm(n int) { f.left, f.statement = n, "" }

func (f *fault) disarm() (failed bool) { failed = f.left < 0; f.left = 0; return failed }

// call is called for each database call. Unarmed, it lets all of them pass.
func (f *fault) call() error {
	if f.left <= 0 {
		return nil
	}
	if f.left--; f.left == 0 {
		f.left = -1
		return errBroken
	}
	return nil
}

// The types below are SQLite's driver with the fault. A row that cannot be scanned is a separate fault.
type (
	faultyDriver struct {
		*fault
		dsn string
	}
	faultyConn struct {
		*fault
		driver.Conn
	}
	faultyStmt struct {
		*fault
		driver.Stmt
	}
	faultyRows struct {
		*fault
		driver.Rows
	}
	faultyTx struct {
		*fault
		driver.Tx
	}
	faultyResult struct {
		*fault
		driver.Result
	}
)

func (d faultyDriver) Driver() driver.Driver { return &sqlite.Driver{} }

func (d faultyDriver) Connect(context.Context) (driver.Conn, error) {
	c, err := d.Driver().Open(d.dsn)
	return faultyConn{d.fault, c}, err
}

func (c faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return faultyTx{c.fault, tx}, err
}

func (c faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	return faultyStmt{c.fault, s}, err
}

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	r, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	return faultyResult{c.fault, r}, err
}

func (c faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	r, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	return faultyRows{c.fault, r}, err
}

func (s faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.call(); err != nil {
		return nil, err
	}
	r, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	return faultyResult{s.fault, r}, err
}

func (r faultyRows) Next(dest []driver.Value) error {
	if err := r.call(); err != nil {
		return err
	}
	err := r.Rows.Next(dest)
	if err == nil && r.call() != nil {
		for i := range dest {
			dest[i] = errBroken // an invalid type of a column
		}
	}
	return err
}

func (r faultyResult) RowsAffected() (int64, error) {
	if err := r.call(); err != nil {
		return 0, err
	}
	return r.Result.RowsAffected()
}

func (t faultyTx) Commit() error {
	if err := t.call(); err != nil {
		return errors.Join(err, t.Rollback())
	}
	return t.Tx.Commit()
}

// TraceQueryStart and TraceCopyFromStart make a statement fail on PostgreSQL: its context has ended, also when the pool retries it. The pool's own
// statements are spared.
func (f *fault) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	again := f.left < 0 && f.statement == q.SQL
	if !again && (q.SQL == "rollback" || f.call() == nil) {
		return ctx
	}
	f.statement = q.SQL
	over, cancel := context.WithCancel(ctx)
	cancel()
	return over
}

func (f *fault) TraceCopyFromStart(ctx context.Context, c *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return f.TraceQueryStart(ctx, c, pgx.TraceQueryStartData{})
}

func (*fault) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)       {}
func (*fault) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

func faultySQLite(t *testing.T) (*Store, *fault) {
	f := &fault{}
	dsn := "file:" + filepath.Join(t.TempDir(), "cloud.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
	s := &Store{write: sql.OpenDB(faultyDriver{f, dsn + "&_txlock=immediate"}), read: sql.OpenDB(faultyDriver{f, dsn}), dialect: sqliteDialect{}, opts: Options{}.withDefaults()}
	s.write.SetMaxOpenConns(1)
	t.Cleanup(func() { _, _ = s.read.Close(), s.write.Close() })
	return s, f
}

func faultyPostgres(t *testing.T, dsn string) (*Store, *fault) {
	f := &fault{}
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.ConnConfig.Tracer = f
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	return &Store{write: db, read: db, dialect: postgresDialect{}, opts: Options{}.withDefaults()}, f
}

// contents returns all rows except the names of nodes without stored records, which are created in a separate transaction.
func contents(t *testing.T, s *Store) (all []string) {
	t.Helper()
	for _, table := range []string{"offload_schema", "nodes WHERE seen > 0", "streams", "ranges", "records", "doubles", "dead_letters", "jobs"} {
		name, _, _ := strings.Cut(table, " ")
		there, err := s.dialect.exists(t.Context(), s.read, name)
		require.NoError(t, err)
		if !there {
			continue
		}
		rows, err := s.read.QueryContext(t.Context(), "SELECT * FROM "+table)
		require.NoError(t, err)
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			require.NoError(t, rows.Scan(into...))
			all = append(all, fmt.Sprintln(columns, row))
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	}
	slices.Sort(all)
	return all
}

// Every failing database call is reported by each operation and leaves nothing behind: a retry succeeds.
func TestEveryFailureIsReported(t *testing.T) {
	server := pgtest.Start(t, "fsync=off")
	type attempt func(context.Context) error
	exec := func(t *testing.T, s *Store, statements ...string) {
		for _, statement := range statements {
			_, err := s.write.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
	}
	// filled creates records of two nodes, one of them unreadable, whose jobs are taken by w; the second job is answered.
	filled := func(t *testing.T, s *Store) (jobs []int64, answer string) {
		require.NoError(t, s.migrate(t.Context()))
		b := of("s1", 1, "a", 1, 2, 3, 4, 9)
		b.Records[0].Task.Of, b.Records[2].Task.Class.Name = 2, "default-results"
		commit(t, withModel(s), b, batch("n2", 1, 1))
		b = of("s1", 1, "a", 5)
		b.Records[0] = Record{Sequence: 5, Raw: []byte("rubbish"), Problem: "x"}
		_, err := s.Commit(t.Context(), &Group{Batches: []*Batch{b}, Letters: []*Letter{{Node: "n1", Raw: []byte("x")}}})
		require.NoError(t, err)
		all, err := s.TakeJobs(t.Context(), "w", "bearing", time.Hour, 10)
		require.NoError(t, err)
		for _, j := range all {
			jobs = append(jobs, j.Record)
		}
		slices.Sort(jobs)
		require.True(t, finish(t, s, "w", jobs[1], "{}", ""))
		return jobs, answers(t, s)[0].ID
	}
	for name, begin := range map[string]func(*testing.T, *Store) attempt{
		"new tables": func(_ *testing.T, s *Store) attempt { return s.migrate },
		"old tables": func(t *testing.T, s *Store) attempt {
			exec(t, s, append(s.dialect.schema(), `CREATE TABLE offload_schema (version INTEGER NOT NULL)`, `INSERT INTO offload_schema VALUES (1)`)...)
			for n := range 2 {
				exec(t, s, fmt.Sprintf(`INSERT INTO records (stream, sequence, node, event_id, chunk, parts, digest, class, device, source, resource, origin, stored, meta, data)
					VALUES (1, %[1]d, 1, '%[1]d', 0, 1, 0, '', '', '', '', 0, 0, '', '')`, n))
			}
			return s.migrate
		},
		"a look at the tables": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return s.check
		},
		"a group": func(t *testing.T, s *Store) attempt {
			jobs, answer := filled(t, s)
			require.True(t, finish(t, s, "w", jobs[0], "", "a chunk is missing"))
			exec(t, s, fmt.Sprintf(`UPDATE nodes SET seen = seen - %d`, 2*away), `UPDATE jobs SET state = 2`)
			letters, err := s.Letters(t.Context(), 0, 10, false)
			require.NoError(t, err)
			return func(ctx context.Context) error {
				b := of("s1", 40, "a", 1, 6, 7, 8, 30, 31)
				b.Records[0].Task.Of = 2 // it is stored
				b.Records[3].Task = whole("a-2")
				chunk := b.Records[4].Task
				chunk.EventID, chunk.Chunk, chunk.Of = "a-1", 1, 2
				b.Records[5] = Record{Sequence: 31, Raw: []byte("rubbish"), Problem: "x"}
				_, err := s.Commit(ctx, &Group{
					Batches: []*Batch{b, of("s2", 1, "b", 2)}, Gone: []*Gone{{Node: "n1", Epoch: "e2", Spans: []ranges.Span{{First: 1, Last: 2, Fate: "expired"}}}},
					Letters: []*Letter{{Node: "n1", Raw: []byte("x")}, {Node: "n1", Raw: []byte("y")}}, Settled: []int64{letters[0].ID},
					Confirmed: []*Confirmed{{Node: "n1", Results: []ConfirmedResult{{ID: answer}}}}, Hasty: true,
				})
				return err
			}
		},
		"new nodes": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error {
				_, err := s.Commit(ctx, &Group{Batches: []*Batch{batch("n3", 1, 1)}})
				return err
			}
		},
		"figures": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error { _, err := s.Stats(ctx); return err }
		},
		"use": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error {
				to, err := s.Settled(ctx, 0)
				if err == nil {
					_, err = s.Used(ctx, Mark{}, to)
				}
				return err
			}
		},
		"names": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error { _, err := s.Nodes(ctx); return err }
		},
		"events": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error {
				first, err := s.First(ctx, Filter{Limit: 1})
				if err == nil {
					_, err = s.Of(ctx, first[0])
				}
				return err
			}
		},
		"letters": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error { _, err := s.Letters(ctx, 0, 10, true); return err }
		},
		"letters dropped": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			return func(ctx context.Context) error { _, err := s.DropLetters(ctx, []int64{1, 2}); return err }
		},
		"fresh jobs": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			exec(t, s, `UPDATE jobs SET state = 0`)
			return func(ctx context.Context) error { _, err := s.TakeJobs(ctx, "w", "bearing", 0, 10); return err }
		},
		"jobs again": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			exec(t, s, `UPDATE jobs SET state = 1, due = 0`)
			return func(ctx context.Context) error { _, err := s.TakeJobs(ctx, "w", "bearing", 0, 10); return err }
		},
		"a lease": func(t *testing.T, s *Store) attempt {
			jobs, _ := filled(t, s)
			return func(ctx context.Context) error { _, err := s.RenewJob(ctx, "w", jobs[0], 2*time.Hour); return err }
		},
		"a pause": func(t *testing.T, s *Store) attempt {
			jobs, _ := filled(t, s)
			return func(ctx context.Context) error { return s.PostponeJob(ctx, "w", jobs[0], time.Hour, "x", true) }
		},
		"outcomes": func(t *testing.T, s *Store) attempt {
			jobs, _ := filled(t, s)
			return func(ctx context.Context) error {
				_, err := s.FinishJobs(ctx, "w", []*Outcome{{Record: jobs[0], Problem: "x", Stored: 1}, {Record: jobs[2]}})
				return err
			}
		},
		"answers": func(t *testing.T, s *Store) attempt {
			filled(t, s)
			exec(t, s, `UPDATE jobs SET due = 0`)
			return func(ctx context.Context) error { _, err := s.TakeAnswers(ctx, time.Hour, 10); return err }
		},
		"failed jobs": func(t *testing.T, s *Store) attempt {
			jobs, _ := filled(t, s)
			require.True(t, finish(t, s, "w", jobs[0], "", "x"))
			return func(ctx context.Context) error {
				if _, err := s.FailedJobs(ctx, 0, 10); err != nil {
					return err
				}
				_, err := s.RetryJob(ctx, jobs[0])
				return err
			}
		},
		"a job's record": func(t *testing.T, s *Store) attempt {
			jobs, _ := filled(t, s)
			return func(ctx context.Context) error {
				one, err := s.JobRecord(ctx, jobs[0])
				if err == nil {
					_, err = s.Ended(ctx, one, 1)
				}
				return err
			}
		},
	} {
		test := func(t *testing.T, s *Store, f *fault) {
			do := begin(t, s)
			before := contents(t, s)
			for n := 1; ; n++ {
				f.arm(n)
				err := do(t.Context())
				require.Zero(t, s.read.Stats().InUse+s.write.Stats().InUse, "call %d: a connection is not returned", n)
				if !f.disarm() {
					require.NoError(t, err, "none failed of %d", n)
					require.Greater(t, n, 1)
					return
				}
				require.Error(t, err, "call %d", n)
				require.Regexp(t, `disk is broken|Scan error|context canceled|bad connection`, err.Error(), "it is the failure that is reported")
				require.Equal(t, before, contents(t, s), "call %d", n)
			}
		}
		t.Run("sqlite/"+name, func(t *testing.T) { s, f := faultySQLite(t); test(t, s, f) })
		t.Run("postgres/"+name, func(t *testing.T) {
			s, f := faultyPostgres(t, server.Database(t))
			test(t, s, f)
		})
	}
}

// blind is a database that finds no stream after its creation.
type blind struct{ dialect }

func (b blind) table(columns []string) string {
	if len(columns) == 3 {
		return `(SELECT 0 AS node, '' AS name, '' AS epoch WHERE $1 IS NULL) AS w`
	}
	return b.dialect.table(columns)
}

// A record must not be stored without a stream.
func TestAStreamThatIsNotThereIsAnError(t *testing.T) {
	s := open(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"), Options{})
	s.dialect = blind{s.dialect}
	_, err := s.Commit(t.Context(), &Group{Batches: []*Batch{batch("n1", 1, 1)}})
	require.ErrorContains(t, err, `finding the streams of node n1: node "n1", epoch "e1": the stream is missing after its creation`)
	require.Zero(t, count(t, s, "records"))
}
