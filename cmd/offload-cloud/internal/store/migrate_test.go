package store

import (
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/ranges"
)

// first creates a database as left by version 1: records 1–600 of n1 in rows, 601 a repeated task, 602 unreadable.
func first(t *testing.T, driver, dsn string, d dialect) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), query, args...)
		require.NoError(t, err, query)
	}
	exec(`CREATE TABLE offload_schema (version INTEGER NOT NULL)`)
	exec(`INSERT INTO offload_schema (version) VALUES (1)`)
	for _, statement := range d.schema() {
		exec(statement)
	}
	exec(`INSERT INTO nodes (name, stored) VALUES ('n1', 600)`)
	exec(`INSERT INTO streams (node, epoch, low, complete) VALUES (1, 'e1', 1, 0)`)
	exec(`INSERT INTO ranges (stream, low, high, fate) VALUES (1, 1, 601, 'stored'), (1, 602, 602, 'dead')`)
	for i := 1; i <= 600; i++ {
		w := whole(fmt.Sprintf("a-%d", i))
		data := w.Data
		w.Data = nil
		exec(`INSERT INTO records (stream, sequence, node, event_id, chunk, parts, digest, class, device, source, resource, origin, stored, meta, data)
			VALUES (1, $1, 1, $2, 0, 1, $3, 'default', $4, $5, '', $6, 0, $7, $8)`, i, w.EventID,
			int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), w.Device, w.Source, w.Origin, w.Append(nil), data)
	}
}

// Records stored by an older program are recognised by their content, under their sequence and under others.
func TestDatabasesOfTheFirstVersionAreMigrated(t *testing.T) {
	test := func(t *testing.T, dsn string) {
		_, err := Open(t.Context(), dsn, Options{MustExist: true})
		require.ErrorContains(t, err, "version 1", "a verb that looks changes nothing")
		s := open(t, dsn, Options{})
		result := commit(t, s, of("", 1, "a", 1, 599, 600))
		require.Equal(t, 3, result.DuplicateRecords)
		other := of("", 1, "a", 700)
		other.Records[0].Task = whole("a-7")
		require.Equal(t, 1, commit(t, s, other).DuplicateTasks)
		require.Equal(t, []ranges.Span{span(5, 6)}, commit(t, s, of("", 1, "b", 5, 6)).Receipts[0].Conflicts)
		require.Equal(t, []string{"b-601"}, ids(commit(t, s, of("", 1, "b", 601))), "of it nothing is known but the number")
		require.Equal(t, []ranges.Span{span(601, 601)}, commit(t, s, of("", 1, "c", 601)).Receipts[0].Conflicts)
		require.Equal(t, []string{"b-602"}, ids(commit(t, s, of("", 1, "b", 602))))
		require.NoError(t, s.Close())
		require.Equal(t, 602, count(t, open(t, dsn, Options{MustExist: true}), "records"))
	}
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "cloud.db")
		first(t, "sqlite", "file:"+path, sqliteDialect{})
		test(t, "sqlite:"+path)
	})
	t.Run("postgres", func(t *testing.T) { // whose tables replace newer ones, of which functions are left
		dsn := pgtest.Start(t, "fsync=off").Database(t)
		newer := open(t, dsn, Options{})
		_, err := newer.write.ExecContext(t.Context(), `DROP TABLE offload_schema, nodes, streams, ranges, records, doubles, dead_letters, jobs CASCADE`)
		require.NoError(t, errors.Join(err, newer.Close()))
		first(t, "pgx", dsn, postgresDialect{})
		test(t, dsn)
	})
}

// Several programs that start concurrently migrate once.
func TestManyMayMigrateAtOnce(t *testing.T) {
	dsn := pgtest.Start(t, "fsync=off").Database(t)
	first(t, "pgx", dsn, postgresDialect{})
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			s, err := Open(t.Context(), dsn, Options{})
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
}

// A read-only verb must not create tables in a mistyped database, nor change another program's one.
func TestLookingChangesNothing(t *testing.T) {
	dir := t.TempDir()
	empty, foreign, text := filepath.Join(dir, "empty.db"), filepath.Join(dir, "foreign.db"), filepath.Join(dir, "text.db")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600))
	db, err := sql.Open("sqlite", "file:"+foreign)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `CREATE TABLE mine (x INTEGER)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	for path, want := range map[string]string{empty: "no tables of offload-cloud", foreign: "no tables of offload-cloud", text: "not a database", filepath.Join(dir, "none.db"): "no such file"} {
		before, _ := os.ReadFile(path)
		_, err := Open(t.Context(), "sqlite:"+path, Options{MustExist: true})
		require.ErrorContains(t, err, want, path)
		after, _ := os.ReadFile(path)
		require.Equal(t, before, after, path)
	}
	dsn := pgtest.Start(t, "fsync=off").Database(t)
	_, err = Open(t.Context(), dsn, Options{MustExist: true})
	require.ErrorContains(t, err, "no tables of offload-cloud")
	admin, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	defer admin.Close() //nolint:errcheck // a test's own
	var n int
	require.NoError(t, admin.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&n))
	require.Zero(t, n)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Path = "/mistyped"
	_, err = Open(t.Context(), u.String(), Options{MustExist: true})
	require.ErrorContains(t, err, "mistyped")
}

// A user who may read a database, but not write beside it, gets advice.
func TestAFolderThatCannotBeWrittenIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	s, err := Open(t.Context(), "sqlite:"+path, Options{})
	require.NoError(t, err)
	_, err = s.write.Exec("PRAGMA query_only = ON")
	require.NoError(t, err)
	for statement, advised := range map[string]bool{"DELETE FROM nodes": true, "DELETE FROM none": false} {
		_, err := s.write.Exec(statement)
		require.Equal(t, advised, strings.Contains(explained(err).Error(), "this user must be able to write"), "%s: %v", statement, err)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Mkdir(path+"-wal", 0o700)) // fails like a file that must not be created, also for root
	_, err = Open(t.Context(), "sqlite:"+path, Options{MustExist: true})
	require.ErrorContains(t, err, "unable to open database file")
	require.ErrorContains(t, err, "this user must be able to write to its folder")
}

// A file that is no database, or no file at all, such as a device, keeps its mode and content, and nothing appears beside it.
func TestAMistypedPathChangesNothing(t *testing.T) {
	for _, opts := range []Options{{}, {MustExist: true}} {
		dir := t.TempDir()
		text, pipe := filepath.Join(dir, "text"), filepath.Join(dir, "pipe")
		require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600))
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
		other := filepath.Join(dir, "other")
		db, err := sql.Open("sqlite", other)
		require.NoError(t, err)
		_, err = db.Exec("CREATE TABLE theirs (a)")
		require.NoError(t, errors.Join(err, db.Close()))
		about := "another program"
		if opts.MustExist {
			about = "no tables of offload-cloud" // it is only read
		}
		for path, want := range map[string]string{text: "not a database", pipe: "not a regular file", dir: "not a regular file", other: about} {
			require.NoError(t, os.Chmod(path, 0o755))
			before, err := os.Stat(path)
			require.NoError(t, err)
			_, err = Open(t.Context(), "sqlite:"+path, opts)
			require.ErrorContains(t, err, want, path)
			after, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, []any{before.Mode(), before.Size(), before.ModTime()}, []any{after.Mode(), after.Size(), after.ModTime()}, path)
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 3)
	}
}

// Other users of the host cannot read the data of the nodes.
func TestDatabaseFilesArePrivate(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"new": 0, "of an older program": 0o644, "shared with a group": 0o640} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cloud.db")
			want := os.FileMode(0o600)
			if mode != 0 {
				require.NoError(t, os.WriteFile(path, nil, mode))
				require.NoError(t, os.Chmod(path, mode))
			}
			if mode == 0o640 {
				want = mode
			}
			s := open(t, "sqlite:"+path, Options{})
			commit(t, s, batch("n1", 1, 1))
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				require.NoError(t, err)
				require.Equal(t, want, info.Mode().Perm(), suffix)
			}
		})
	}
}
