package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
)

// dialect is all in which the databases differ. Both understand $1 placeholders, ON CONFLICT and RETURNING.
type dialect interface {
	name() string
	// guard makes creating the tables safe when several processes start at once.
	guard(ctx context.Context, tx *sql.Tx) error
	// exists says whether there is a table of the name where this program would find it.
	exists(ctx context.Context, db *sql.DB, table string) (bool, error)
	schema() []string
	// second brings the tables of version 1 to version 2, but for the digests.
	second() []string
	// inside is the context for statements within a transaction that itself ends with ctx.
	inside(ctx context.Context) context.Context
	// forUpdate ends a SELECT whose rows stay locked until the transaction ends.
	forUpdate() string
	// hasten makes the transaction give up soon where another session holds what it needs.
	hasten(ctx context.Context, tx *sql.Tx) error
	// among ends a condition on a column that must be in the second parameter, a JSON list of integers.
	among() string
	// insert stores the rows, marking those that were not there yet as fresh. In a transaction that is not careful it may fail where a row is
	// there already, with an error that repeated knows.
	insert(ctx context.Context, tx *transaction, rows []*row) error
	repeated(err error) bool
	// remember keeps the digests of records that have no row of their own.
	remember(ctx context.Context, tx *sql.Tx, rows []*row) error
	// table makes a table w of the first parameter, a JSON list of objects, with columns such as "node bigint".
	table(columns []string) string
	// rewrite gives rows new digests, by their ids.
	rewrite(ctx context.Context, tx *sql.Tx, ids, contents []int64) error
	// bound is the id up to which every row that will ever be there can be read.
	bound(ctx context.Context, db *sql.DB) (int64, error)
	permanent(err error) bool
	// third brings the tables of version 2 to version 3.
	third() []string
	// number has each answer of a job numbered; see fifthVersion.
	number() []string
	// clock is the time of the database in ns since the Unix epoch, as an expression. It is the same for all who share the database.
	clock() string
	// skipLocked ends a SELECT that leaves out the rows that another transaction has locked, and locks its own.
	skipLocked() string
	// insertJobs stores a job for each of the rows.
	insertJobs(ctx context.Context, tx *sql.Tx, rows []*row) error
	// failed is told how a transaction on a connection ended.
	failed(conn *sql.Conn, err error)
	// blocked says whether a statement met a lock that another session holds, or a limit of time.
	blocked(err error) (locked, slow bool)
}

// schema is version 1, common to both databases but for the names of two types: that of a key that numbers itself, and that of bytes.
// Version 2 follows from it by the changes in migrate.go, in new databases as in old ones.
//
// Node names and epochs are stored once and referred to by number. The second index of records is a task's identity. The
// event's time of origin goes first: it adds nothing to the identity, but keeps what arrives together together in the index, where ids
// alone, being random, would touch a page a record. The digest is part of it so that a task that claims the id of another but holds
// something else is kept, not taken for a repetition.
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

// fateTables hold who sent what, and what became of each sequence.
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

// eachOf runs one statement on n rows of values, which are the table w where it says WANTED, and gives each row that it returns to f. With
// a nil f it returns none. Without rows nothing is done.
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
