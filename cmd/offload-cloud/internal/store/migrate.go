package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// version is the version of the tables that this program reads and writes.
const version = 5

// errNoTables means that no consumer has written to the database.
var errNoTables = errors.New("it has no tables of offload-cloud; use the consumer's -store")

// check rejects tables that this program cannot read, and changes nothing.
func (s *Store) check(ctx context.Context) error {
	found, err := s.foundVersion(ctx)
	if err != nil {
		return err
	}
	switch {
	case found == 0:
		return errNoTables
	case found < version:
		return fmt.Errorf("the tables have version %d and this program reads version %d; start its consumer once to upgrade them", found, version)
	}
	return checkVersion(found)
}

// foundVersion returns the version of the tables, 0 without tables.
func (s *Store) foundVersion(ctx context.Context) (found int, err error) {
	there, err := s.dialect.exists(ctx, s.read, "offload_schema")
	if err != nil || !there {
		return 0, err
	}
	err = s.read.QueryRowContext(ctx, `SELECT version FROM offload_schema`).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return found, err
}

func checkVersion(found int) error {
	if found != version {
		return fmt.Errorf("the tables have version %d and this program supports version %d; use the program that created them", found, version)
	}
	return nil
}

// migrate creates the tables on the first start, upgrades older tables to this version, and rejects newer ones. It is one transaction: if the program
// is killed, the tables stay unchanged.
func (s *Store) migrate(ctx context.Context) error {
	found, err := s.foundVersion(ctx)
	if err != nil || found >= version {
		return errors.Join(err, checkVersion(max(found, version)))
	}
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.dialect.guard(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS offload_schema (version INTEGER NOT NULL)`); err != nil {
			return err
		}
		var found int
		err := tx.QueryRowContext(ctx, `SELECT version FROM offload_schema`).Scan(&found)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			found = 1
			err = runAll(ctx, tx, append(s.dialect.schema(), `INSERT INTO offload_schema (version) VALUES (1)`))
		case err == nil && found >= version:
			return checkVersion(found) // another process has upgraded the tables
		}
		if err != nil {
			return err
		}
		if found == 1 {
			if err := s.toSecond(ctx, tx); err != nil {
				return err
			}
		}
		if found < 3 {
			if err := runAll(ctx, tx, s.dialect.third()); err != nil {
				return err
			}
		}
		if found < 4 {
			if err := runAll(ctx, tx, fourthVersion); err != nil {
				return err
			}
		}
		if err := runAll(ctx, tx, append(fifthVersion, s.dialect.number()...)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE offload_schema SET version = $1`, version)
		return err
	})
}

func runAll(ctx context.Context, tx *sql.Tx, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("running %.60q: %w", statement, err)
		}
	}
	return nil
}

// secondVersion adds a digest of the whole content of a record, where version 1 had a short digest of its data, and the digests of records without a
// row of their own: repeated tasks and unreadable records. The column has a new name, so that a running program of version 1 fails instead of writing
// old digests.
func secondVersion(noRowID string) []string {
	return []string{
		`ALTER TABLE records RENAME COLUMN digest TO content`,
		`ALTER TABLE nodes ADD COLUMN conflicts BIGINT NOT NULL DEFAULT 0`,
		`ALTER TABLE streams ADD COLUMN session TEXT NOT NULL DEFAULT ''`,
		`CREATE TABLE doubles (
			stream BIGINT NOT NULL,
			sequence BIGINT NOT NULL,
			content BIGINT NOT NULL,
			PRIMARY KEY (stream, sequence))` + noRowID,
		`CREATE INDEX dead_letters_node ON dead_letters (node)`,
	}
}

const (
	insertDouble = `INSERT INTO doubles (stream, sequence, content)`
	doubleAgain  = ` ON CONFLICT (stream, sequence) DO UPDATE SET content = excluded.content`
)

// migratePage is the number of records in memory during a migration.
const migratePage = 500

// toSecond upgrades the tables to version 2 and sets the new digest of every record.
func (s *Store) toSecond(ctx context.Context, tx *sql.Tx) error {
	if err := runAll(ctx, tx, s.dialect.second()); err != nil {
		return err
	}
	for after := int64(0); ; {
		ids, contents, err := digests(ctx, tx, &after)
		if err != nil {
			return fmt.Errorf("reading records to give them new digests: %w", err)
		}
		if len(ids) == 0 {
			break
		}
		if err := s.dialect.rewrite(ctx, tx, ids, contents); err != nil {
			return fmt.Errorf("giving records new digests: %w", err)
		}
	}
	return nil
}

// thirdVersion adds the jobs of records whose class has a model. A job's row contains everything needed to publish its answer, even after its record
// was deleted.
func thirdVersion(bytes string) []string {
	return []string{
		`CREATE TABLE jobs (
			record BIGINT PRIMARY KEY,
			node BIGINT NOT NULL,
			event_id TEXT NOT NULL,
			chunk INTEGER NOT NULL,
			class TEXT NOT NULL,
			content BIGINT NOT NULL,
			model TEXT NOT NULL,
			state INTEGER NOT NULL DEFAULT 0,
			due BIGINT NOT NULL,
			created BIGINT NOT NULL,
			answered BIGINT NOT NULL DEFAULT 0,
			confirmed BIGINT NOT NULL DEFAULT 0,
			tries INTEGER NOT NULL DEFAULT 0,
			sends INTEGER NOT NULL DEFAULT 0,
			worker TEXT NOT NULL DEFAULT '',
			ok INTEGER NOT NULL DEFAULT 0,
			problem TEXT NOT NULL DEFAULT '',
			refused TEXT NOT NULL DEFAULT '',
			payload ` + bytes + `)`,
		`CREATE INDEX jobs_fresh ON jobs (model, record) WHERE state = 0`,
		`CREATE INDEX jobs_taken ON jobs (model, due) WHERE state = 1`,
		`CREATE INDEX jobs_answered ON jobs (due) WHERE state = 2`,
		`CREATE VIEW results AS
			SELECT j.record, n.name AS node, j.event_id, j.chunk, j.class, j.model, j.ok, j.problem, j.refused, j.tries, j.sends,
				j.created, j.answered, j.confirmed, j.payload
			FROM jobs j JOIN nodes n ON n.id = j.node WHERE j.state >= 2`,
	}
}

// fourthVersion counts the restarts of a job, and indexes failed jobs by event and dropped ones by node.
var fourthVersion = []string{
	`ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0`,
	`CREATE INDEX jobs_failed ON jobs (node, event_id) WHERE state >= 2 AND ok = 0`,
	`CREATE INDEX jobs_given_up ON jobs (node) WHERE state = 4`,
}

// fifthVersion numbers answers. A number is the time of the answer, or one more than the highest number if that is larger: numbers ascend even if the
// clock is set back, and marks that are times stay valid. A trigger sets them, so that programs of version 4 do as well.
var fifthVersion = []string{
	`ALTER TABLE jobs ADD COLUMN number BIGINT NOT NULL DEFAULT 0`,
	`UPDATE jobs SET number = answered WHERE answered > 0`,
	`CREATE INDEX jobs_number ON jobs (number)`,
}

// insertJob begins SQLite's statement that creates the job of a record. SQLite reuses the id of the last row after its deletion; the job of the
// deleted record is obsolete then.
const insertJob = `INSERT OR REPLACE INTO jobs (record, node, event_id, chunk, class, content, model, due, created) SELECT id, node, event_id, chunk, class, content, $3`

// digests returns the new digests of the records after an id, and moves the id on. An unreadable record keeps its digest.
func digests(ctx context.Context, tx *sql.Tx, after *int64) (ids, contents []int64, err error) {
	err = scan(ctx, tx, func(rows *sql.Rows) error {
		var content int64
		var meta, data []byte
		if err := rows.Scan(after, &meta, &data, &content); err != nil {
			return err
		}
		if t, err := join(meta, data); err == nil {
			content = contentOf(&Record{Task: t})
		}
		ids, contents = append(ids, *after), append(contents, content)
		return nil
	}, `SELECT id, meta, data, content FROM records WHERE id > $1 ORDER BY id LIMIT $2`, *after, migratePage)
	return ids, contents, err
}
