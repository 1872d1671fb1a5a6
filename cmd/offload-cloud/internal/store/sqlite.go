package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"strings"

	"modernc.org/sqlite" // registers the driver "sqlite"
	lib "modernc.org/sqlite/lib"
)

type sqliteDialect struct{}

// openSQLite opens the file with a write-ahead log that is synced at every commit: commits that Commit has reported are on disk. SQLite has one
// writer at a time, so one connection writes and a few others read.
func openSQLite(path string, opts Options) (*Store, error) {
	if path == "" {
		return nil, errors.New("store \"sqlite:\": the path is missing; write sqlite:/var/lib/offload/cloud.db")
	}
	settings := []string{"busy_timeout(10000)", "synchronous(FULL)", "wal_autocheckpoint(4000)", "cache_size(-65536)", "temp_store(MEMORY)"}
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular(): // SQLite would create files beside a device
		return nil, fmt.Errorf("opening the store: %s is not a regular file", path)
	case err != nil && opts.MustExist:
		return nil, fmt.Errorf("opening the store: %w; use the consumer's -store", err)
	case !opts.MustExist:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("opening the store: %w", err)
		}
		if err := foreign(path); err != nil {
			return nil, fmt.Errorf("opening the store: %w", err)
		}
		settings = append(settings, "journal_mode(WAL)") // this setting changes the file
	}
	dsn := sqliteDSN(path, settings)
	opened, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	write, err := sql.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), write.Close())
	}
	read.SetMaxOpenConns(opts.ReadersMax)
	return &Store{
		write: write, read: read, opts: opts, dialect: sqliteDialect{}, lanes: 1, protect: func(ctx context.Context) error {
			_, err := write.ExecContext(ctx, keepNewest)
			return errors.Join(err, private(path))
		},
		inPlace: func() error {
			if now, err := os.Stat(path); err != nil || !os.SameFile(opened, now) {
				return fmt.Errorf("the file %s was removed, moved or replaced while it is open; put it back, or start the program again", path)
			}
			return nil
		},
		close: func() error { return errors.Join(read.Close(), write.Close()) },
	}, nil
}

func sqliteDSN(path string, settings []string) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() + "?" + url.Values{"_pragma": settings}.Encode()
}

// keepNewest keeps the newest record when old ones are deleted by hand: SQLite would use its id again, and readers that continue after that id would
// miss the next record.
const keepNewest = `CREATE TRIGGER IF NOT EXISTS offload_newest BEFORE DELETE ON records WHEN OLD.id = (SELECT MAX(id) FROM records) BEGIN
		SELECT RAISE(IGNORE);
	END`

// foreign returns an error for another program's database: it has tables, but none of the store's.
func foreign(path string) error {
	db, err := sql.Open("sqlite", sqliteDSN(path, []string{"busy_timeout(10000)"}))
	if err != nil {
		return err
	}
	defer db.Close()
	var tables, ours int
	err = db.QueryRow(`SELECT COUNT(*), COALESCE(SUM(name = 'offload_schema'), 0) FROM sqlite_master WHERE type = 'table'`).Scan(&tables, &ours)
	if err == nil && tables > 0 && ours == 0 {
		err = fmt.Errorf("%s is a database of another program, with %d other tables", path, tables)
	}
	return err
}

// private denies other users of the host access to the database, which SQLite would make readable by all. The files beside it get its mode. Read
// access of the group is left as it is, since an administrator must have set it.
func private(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err == nil && info.Mode().Perm()&0o007 != 0 {
			err = os.Chmod(path+suffix, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) { // the owner of the file must protect it
			return err
		}
	}
	return nil
}

// explained adds advice to the error of SQLite if it cannot create or write the files beside a database, which it also needs for reading.
func explained(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && (e.Code()&0xff == lib.SQLITE_CANTOPEN || e.Code()&0xff == lib.SQLITE_READONLY) {
		return fmt.Errorf("%w; files are kept beside the database, so this user must be able to write to its folder, unless a consumer has it open", err)
	}
	return err
}

func (sqliteDialect) name() string                         { return "SQLite" }
func (sqliteDialect) guard(context.Context, *sql.Tx) error { return nil } // transactions begin with the write lock
func (sqliteDialect) forUpdate() string                    { return "" }
func (sqliteDialect) schema() []string {
	return schema("INTEGER PRIMARY KEY", "BLOB", " WITHOUT ROWID")
}

// inside removes the end of the transaction's context from the statements: for a context that can end, the driver starts a goroutine for each
// statement, thousands in a group. The statements need no timeout, as the transaction holds the write lock, and after its end the next statement fails.
func (sqliteDialect) inside(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

const insertSQLite = `INSERT INTO records (stream, sequence, node, event_id, chunk, parts, content, class, device, source, resource, origin, stored, meta, data)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING`

func (sqliteDialect) repeated(error) bool { return false } // insert always checks

func (sqliteDialect) insert(ctx context.Context, tx *transaction, rows []*row) error {
	statement, err := tx.PrepareContext(ctx, insertSQLite)
	if err != nil {
		return fmt.Errorf("preparing to store records: %w", err)
	}
	defer statement.Close() //nolint:errcheck // the transaction returns the error
	at := now()
	for _, r := range rows {
		result, err := statement.ExecContext(ctx, r.stream, r.sequence, r.node, r.task.EventID, r.task.Chunk, r.task.Of, r.content,
			r.class, r.task.Device, r.task.Source, r.task.Resource, r.task.Origin, at, r.meta, r.data)
		if err != nil {
			return fmt.Errorf("storing record %d: %w", r.sequence, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("storing record %d: %w", r.sequence, err)
		}
		r.fresh = n == 1
	}
	return nil
}

func (sqliteDialect) third() []string { return thirdVersion("BLOB") }
func (sqliteDialect) number() []string {
	return []string{`CREATE TRIGGER offload_number AFTER UPDATE OF answered ON jobs BEGIN
		UPDATE jobs SET number = MAX(NEW.answered, 1 + (SELECT MAX(number) FROM jobs)) WHERE record = NEW.record;
	END`}
}

func (sqliteDialect) clock() string      { return `CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000000` }
func (sqliteDialect) skipLocked() string { return "" } // transactions begin with the write lock

func (d sqliteDialect) insertJobs(ctx context.Context, tx *sql.Tx, rows []*row) error {
	return each(ctx, tx, insertJob+`, `+d.clock()+`, `+d.clock()+` FROM records WHERE stream = $1 AND sequence = $2`, len(rows), func(i int) []any {
		return []any{rows[i].stream, rows[i].sequence, rows[i].model}
	})
}

func (sqliteDialect) second() []string { return secondVersion(" WITHOUT ROWID") }

func (sqliteDialect) among() string                         { return `(SELECT value FROM json_each($2))` }
func (sqliteDialect) hasten(context.Context, *sql.Tx) error { return nil } // there is one lock, and the transaction holds it
func (sqliteDialect) failed(*sql.Conn, error)               {}             // all connections are alike
func (sqliteDialect) blocked(error) (locked, slow bool)     { return false, false }

func (sqliteDialect) exists(ctx context.Context, db *sql.DB, table string) (there bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT COUNT(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = $1`, table).Scan(&there)
	return there, err
}

// bound returns no limit: with one writer at a time, ids follow the commits.
func (sqliteDialect) bound(context.Context, *sql.DB) (int64, error) { return math.MaxInt64, nil }

func (sqliteDialect) remember(ctx context.Context, tx *sql.Tx, rows []*row) error {
	return each(ctx, tx, insertDouble+` VALUES ($1, $2, $3)`+doubleAgain, len(rows), func(i int) []any {
		return []any{rows[i].stream, rows[i].sequence, rows[i].content}
	})
}

func (sqliteDialect) table(columns []string) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		name, _, _ := strings.Cut(column, " ")
		parts[i] = "value ->> '" + name + "' AS " + name
	}
	return "(SELECT " + strings.Join(parts, ", ") + " FROM json_each($1)) AS w"
}

func (sqliteDialect) rewrite(ctx context.Context, tx *sql.Tx, ids, contents []int64) error {
	return each(ctx, tx, `UPDATE records SET content = $1 WHERE id = $2`, len(ids), func(i int) []any { return []any{contents[i], ids[i]} })
}

// each runs one statement n times.
func each(ctx context.Context, tx *sql.Tx, query string, n int, args func(int) []any) error {
	statement, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer statement.Close() //nolint:errcheck // the transaction returns the error
	for i := range n {
		if _, err := statement.ExecContext(ctx, args(i)...); err != nil {
			return err
		}
	}
	return nil
}

// permanent recognises the error codes about the data. Other errors (busy, full, I/O) may pass.
func (sqliteDialect) permanent(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_TOOBIG, lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE:
		return true
	}
	return false
}
