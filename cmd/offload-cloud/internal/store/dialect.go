package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
)

// dialect contains all differences between the databases. Both support $1 placeholders, ON CONFLICT and RETURNING.
type dialect interface {
	name() string
	// guard makes concurrent creation of the tables by several processes safe.
	guard(ctx context.Context, tx *sql.Tx) error
	// exists reports whether the program finds a table of that name.
	exists(ctx context.Context, db *sql.DB, table string) (bool, error)
	schema() []string
	// second returns statements that upgrade the tables from version 1 to version 2, except for the digests.
	second() []string
	// inside returns the context for statements in a transaction that itself ends with ctx.
	inside(ctx context.Context) context.Context
	// forUpdate ends a SELECT whose rows stay locked until the end of the transaction.
	forUpdate() string
	// hasten shortens the transaction's wait for locks of other sessions.
	hasten(ctx context.Context, tx *sql.Tx) error
	// among ends a condition that a column is in the second parameter, a JSON list of integers.
	among() string
	// insert stores the rows and marks the new ones as fresh. In a transaction that is not careful, an existing row may make it fail with an error
	// for which repeated returns true.
	insert(ctx context.Context, tx *transaction, rows []*row) error
	repeated(err error) bool
	// remember stores the digests of records without a row of their own.
	remember(ctx context.Context, tx *sql.Tx, rows []*row) error
	// table makes a table w of the first parameter, a JSON list of objects, with columns such as "node bigint".
	table(columns []string) string
	// rewrite sets new digests of rows, by their ids.
	rewrite(ctx context.Context, tx *sql.Tx, ids, contents []int64) error
	// bound returns an id up to which all rows that will ever exist are readable.
	bound(ctx context.Context, db *sql.DB) (int64, error)
	permanent(err error) bool
	// third returns statements that upgrade the tables from version 2 to version 3.
	third() []string
	// number returns statements that number each answer of a job; see fifthVersion.
	number() []string
	// clock is an expression for the time of the database in ns since the Unix epoch. It is the same for all processes that share the database.
	clock() string
	// skipLocked ends a SELECT that skips rows locked by another transaction, and locks its own.
	skipLocked() string
	// insertJobs stores a job for each of the rows.
	insertJobs(ctx context.Context, tx *sql.Tx, rows []*row) error
	// failed is called with the error of each transaction on a connection, nil on success.
	failed(conn *sql.Conn, err error)
	// blocked reports whether a statement met a lock of another session, or a time limit.
	blocked(err error) (locked, slow bool)
}

// schema returns version 1 of the tables, the same for both databases except for the types of auto-increment keys and of bytes. The changes in
// migrate.go lead to version 2, in new and in old databases.
//
// Node names and epochs are stored once and referenced by number. The second index of records is the identity of a task. It begins with the event's
// time of origin: it adds nothing to the identity, but keeps records that arrive together close together in the index, where ids alone, which are
// random, would touch one page for each record. The index includes the digest, so that a task with the id of another task but with different content
// is stored, not taken for a repetition.
func schema(autoKey, bytes, noRowID string) []string {
	return append(fateTables(autoKey, noRowID),
		`CREATE TABLE records (
			id `+autoKey+`,
			stream BIGINT NOT NULL,
			sequence BIGINT NOT NULL,
			node BIGINT NOT NULL,
			event_id TEXT NOT NULL,
			chunk INTEGER NOT NULL,
			parts INTEGER NOT NULL,
			digest BIGINT NOT NULL,
			class TEXT NOT NULL,
			device TEXT NOT NULL,
			source TEXT NOT NULL,
			resource TEXT NOT NULL,
			origin BIGINT NOT NULL,
			stored BIGINT NOT NULL,
			meta `+bytes+` NOT NULL,
			data `+bytes+` NOT NULL)`,
		`CREATE UNIQUE INDEX records_place ON records (stream, sequence)`,
		`CREATE UNIQUE INDEX records_task ON records (origin, event_id, node, parts, chunk, digest)`,
		`CREATE TABLE dead_letters (
			id `+autoKey+`,
			digest TEXT NOT NULL UNIQUE,
			topic TEXT NOT NULL,
			node TEXT NOT NULL,
			epoch TEXT NOT NULL,
			sequence BIGINT NOT NULL,
			reason TEXT NOT NULL,
			detail TEXT NOT NULL,
			size BIGINT NOT NULL,
			times BIGINT NOT NULL DEFAULT 1,
			first_seen BIGINT NOT NULL,
			last_seen BIGINT NOT NULL,
			raw `+bytes+` NOT NULL)`,
		`CREATE VIEW tasks AS
			SELECT r.id, n.name AS node, s.epoch, r.sequence, r.event_id, r.chunk, r.parts, r.class, r.device, r.source,
				r.resource, r.origin, r.stored, r.data
			FROM records r JOIN streams s ON s.id = r.stream JOIN nodes n ON n.id = r.node`,
	)
}

// fateTables store the senders and the fate of each sequence.
func fateTables(autoKey, noRowID string) []string {
	return []string{
		`CREATE TABLE nodes (
			id ` + autoKey + `,
			name TEXT NOT NULL UNIQUE,
			stored BIGINT NOT NULL DEFAULT 0,
			duplicate_records BIGINT NOT NULL DEFAULT 0,
			duplicate_tasks BIGINT NOT NULL DEFAULT 0,
			seen BIGINT NOT NULL DEFAULT 0)`,
		`CREATE TABLE streams (
			id ` + autoKey + `,
			node BIGINT NOT NULL REFERENCES nodes (id),
			epoch TEXT NOT NULL,
			low BIGINT NOT NULL,
			complete BIGINT NOT NULL,
			UNIQUE (node, epoch))`,
		`CREATE TABLE ranges (
			stream BIGINT NOT NULL,
			low BIGINT NOT NULL,
			high BIGINT NOT NULL,
			fate TEXT NOT NULL,
			PRIMARY KEY (stream, low))` + noRowID,
	}
}

// eachOf runs one statement on n rows of values, as the table w in place of WANTED, and passes each result row to f. If f is nil, the statement
// returns no rows. Without values, eachOf does nothing.
func (s *Store) eachOf(ctx context.Context, tx *sql.Tx, statement string, columns []string, n int, values func(i int) []any, f func(*sql.Rows) error) error {
	if n == 0 {
		return nil
	}
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = make(map[string]any, len(columns))
		row := values(i)
		for c, column := range columns {
			name, _, _ := strings.Cut(column, " ")
			list[i][name] = row[c]
		}
	}
	wanted, err := json.Marshal(list)
	if err != nil {
		return err
	}
	statement = strings.Replace(statement, "WANTED", s.dialect.table(columns), 1)
	if f == nil {
		_, err = tx.ExecContext(ctx, statement, string(wanted))
		return err
	}
	return scan(ctx, tx, f, statement, string(wanted))
}
