package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

type postgresDialect struct{}

// connsMax is the default size of the pool, without pool_max_conns in the URL.
const connsMax = 8

// openPostgres connects through a pool whose size is the URL's pool_max_conns. Every session turns synchronous_commit on, in case the server has it off.
func openPostgres(ctx context.Context, dsn string, opts Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The driver's error repeats the URL and, in some forms, the password.
		return nil, errors.New("the store's URL is invalid; write it like postgres://user@host:5432/database, and characters other than letters and digits in a password as %XX")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "offload-cloud"
	}
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	if !opts.MustExist || opts.Works {
		setTimeouts(cfg.ConnConfig.RuntimeParams)
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = connsMax
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the store: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting to the store: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	lanes := min(max(int(cfg.MaxConns)/2, 1), 4)
	return &Store{write: db, read: db, opts: opts, dialect: postgresDialect{}, lanes: lanes, close: func() error {
		err := db.Close()
		pool.Close()
		return err
	}}, nil
}

// setTimeouts limits how long a stuck worker blocks others: its session ends with its locks, and waiting sessions time out first. Settings of the URL
// stay unchanged.
func setTimeouts(params map[string]string) {
	for name, value := range map[string]string{
		"lock_timeout": "3s", "statement_timeout": "60s", "idle_in_transaction_session_timeout": "20s",
	} {
		if _, set := params[name]; !set {
			params[name] = value
		}
	}
}

func (postgresDialect) name() string                               { return "PostgreSQL" }
func (postgresDialect) inside(ctx context.Context) context.Context { return ctx } // a server may never answer
func (postgresDialect) forUpdate() string                          { return " FOR UPDATE" }
func (postgresDialect) schema() []string {
	return schema("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA", "")
}

// guard serialises first starts: concurrent CREATE TABLE IF NOT EXISTS statements fail. The number is arbitrary but fixed.
func (postgresDialect) guard(ctx context.Context, tx *sql.Tx) error {
	// A new version may have to read all rows.
	_, err := tx.ExecContext(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(8317001)`)
	return err
}

const insertPostgres = `INSERT INTO records (stream, sequence, node, event_id, chunk, parts, content, class, device, source, resource, origin, stored, meta, data)
	SELECT a, b, c, d, e, f, g, h, i, j, k, l, $13::bigint, m, n
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[], $8::text[], $9::text[],
		$10::text[], $11::text[], $12::bigint[], $14::bytea[], $15::bytea[]) AS t (a, b, c, d, e, f, g, h, i, j, k, l, m, n)
	ON CONFLICT DO NOTHING RETURNING stream, sequence`

// insert copies the rows, which costs the server half as much as an insert that checks for conflicts. An existing row makes the transaction fail; see repeated.
func (d postgresDialect) insert(ctx context.Context, tx *transaction, rows []*row) error {
	if tx.careful {
		return d.insertNew(ctx, tx, rows)
	}
	err := tx.conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{"records"}, recordColumns, &copying{rows: rows, at: now()})
		return err
	})
	if err != nil {
		return fmt.Errorf("storing %d records: %w", len(rows), err)
	}
	for _, r := range rows {
		r.fresh = true
	}
	return nil
}

var recordColumns = []string{
	"stream", "sequence", "node", "event_id", "chunk", "parts", "content", "class", "device", "source", "resource", "origin", "stored", "meta", "data",
}

// copying passes rows to the driver one by one.
type copying struct {
	rows   []*row
	at     int64
	next   int
	values [15]any
}

func (c *copying) Next() bool { c.next++; return c.next <= len(c.rows) }
func (c *copying) Err() error { return nil }
func (c *copying) Values() ([]any, error) {
	r := c.rows[c.next-1]
	c.values = [...]any{
		r.stream, r.sequence, r.node, r.task.EventID, int32(r.task.Chunk), int32(r.task.Of), r.content, r.class, r.task.Device, r.task.Source,
		r.task.Resource, r.task.Origin, c.at, r.meta, r.data,
	}
	return c.values[:], nil
}

// repeated recognises unique_violation: a record's row already exists.
func (postgresDialect) repeated(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23505"
}

// insertNew inserts all rows with one statement of arrays, which leaves out existing rows.
func (postgresDialect) insertNew(ctx context.Context, tx *transaction, rows []*row) error {
	type place struct{ stream, sequence int64 }
	fresh := make(map[place]bool, len(rows))
	err := scan(ctx, tx, func(found *sql.Rows) error {
		var p place
		err := found.Scan(&p.stream, &p.sequence)
		fresh[p] = true
		return err
	}, insertPostgres,
		column(rows, func(r *row) int64 { return r.stream }), column(rows, func(r *row) int64 { return r.sequence }),
		column(rows, func(r *row) int64 { return r.node }), column(rows, func(r *row) string { return r.task.EventID }),
		column(rows, func(r *row) int32 { return int32(r.task.Chunk) }), column(rows, func(r *row) int32 { return int32(r.task.Of) }),
		column(rows, func(r *row) int64 { return r.content }), column(rows, func(r *row) string { return r.class }),
		column(rows, func(r *row) string { return r.task.Device }), column(rows, func(r *row) string { return r.task.Source }),
		column(rows, func(r *row) string { return r.task.Resource }), column(rows, func(r *row) int64 { return r.task.Origin }),
		now(), column(rows, func(r *row) []byte { return r.meta }), column(rows, func(r *row) []byte { return r.data }))
	if err != nil {
		return fmt.Errorf("storing %d records: %w", len(rows), err)
	}
	for _, r := range rows {
		r.fresh = fresh[place{r.stream, r.sequence}]
	}
	return nil
}

func (postgresDialect) third() []string { return thirdVersion("BYTEA") }
func (postgresDialect) number() []string {
	return []string{
		`CREATE OR REPLACE FUNCTION offload_number() RETURNS trigger LANGUAGE plpgsql AS $body$
		BEGIN
			EXECUTE format('SELECT GREATEST($1, 1 + MAX(number)) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO NEW.number USING NEW.answered;
			RETURN NEW;
		END $body$`,
		`CREATE TRIGGER offload_number BEFORE UPDATE OF answered ON jobs FOR EACH ROW EXECUTE FUNCTION offload_number()`,
	}
}

func (postgresDialect) clock() string {
	return `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000000)::bigint`
}
func (postgresDialect) skipLocked() string { return " FOR UPDATE SKIP LOCKED" }

func (d postgresDialect) insertJobs(ctx context.Context, tx *sql.Tx, rows []*row) error {
	_, err := tx.ExecContext(ctx, strings.ReplaceAll(`INSERT INTO jobs (record, node, event_id, chunk, class, content, model, due, created)
		SELECT r.id, r.node, r.event_id, r.chunk, r.class, r.content, t.model, NOW, NOW
		FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t (stream, sequence, model)
		JOIN records r ON r.stream = t.stream AND r.sequence = t.sequence`, "NOW", d.clock()),
		column(rows, func(r *row) int64 { return r.stream }), column(rows, func(r *row) int64 { return r.sequence }),
		column(rows, func(r *row) string { return r.model }))
	return err
}

func (postgresDialect) among() string { return `(SELECT jsonb_array_elements_text($2::jsonb)::bigint)` }

// hasten is for attempts after one that met a lock: a lock that is still held is detected soon.
func (postgresDialect) hasten(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout = '200ms'`)
	return err
}

func (postgresDialect) exists(ctx context.Context, db *sql.DB, table string) (there bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there)
	return there, err
}

// errReplica means that the reader cannot see the writers.
var errReplica = errors.New("the server is a replica, which does not show open transactions; read from the primary")

// bound compares ids with open writers, because ids follow the insertion, not the commit. A trigger makes every transaction that inserts records hold
// an advisory lock whose number contains the highest id at its beginning: -1 - id. An id up to the highest committed one was assigned before this
// query, to a transaction that held its lock by then. That transaction is either visible among the locks, which are read afterwards, or has ended.
// The order of the two queries is therefore essential.
func (postgresDialect) bound(ctx context.Context, db *sql.DB) (last int64, err error) {
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0) FROM records`).Scan(&last); err != nil {
		return 0, err
	}
	var open sql.NullInt64
	var replica bool
	err = db.QueryRowContext(ctx, `SELECT MIN(-1 - (classid::bigint << 32 | objid::bigint)), pg_is_in_recovery() FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ShareLock' AND classid::bigint >= 2147483648
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&open, &replica)
	if err == nil && replica {
		err = errReplica
	}
	if open.Valid {
		last = min(last, open.Int64)
	}
	return last, err
}

func (postgresDialect) remember(ctx context.Context, tx *sql.Tx, rows []*row) error {
	// A statement must not contain one row twice; the last one counts.
	last := map[[2]int64]*row{}
	for _, r := range rows {
		last[[2]int64{r.stream, r.sequence}] = r
	}
	rows = slices.Collect(maps.Values(last))
	_, err := tx.ExecContext(ctx, insertDouble+` SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])`+doubleAgain,
		column(rows, func(r *row) int64 { return r.stream }), column(rows, func(r *row) int64 { return r.sequence }),
		column(rows, func(r *row) int64 { return r.content }))
	return err
}

func (postgresDialect) table(columns []string) string {
	return "jsonb_to_recordset($1::jsonb) AS w (" + strings.Join(columns, ", ") + ")"
}

func (postgresDialect) rewrite(ctx context.Context, tx *sql.Tx, ids, contents []int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE records SET content = c.content FROM unnest($1::bigint[], $2::bigint[]) AS c (id, content)
		WHERE records.id = c.id`, ids, contents)
	return err
}

// second adds the locks that show readers how far they may read; see bound.
func (postgresDialect) second() []string {
	return append(secondVersion(""), `CREATE OR REPLACE FUNCTION offload_writing() RETURNS trigger LANGUAGE plpgsql AS $body$
		BEGIN
			EXECUTE format('SELECT pg_advisory_xact_lock_shared(-1 - COALESCE(MAX(id), 0)) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
			RETURN NULL;
		END $body$`,
		`CREATE TRIGGER offload_writing BEFORE INSERT ON records FOR EACH STATEMENT EXECUTE FUNCTION offload_writing()`)
}

// blocked recognises lock_not_available and query_canceled, the errors of lock_timeout and statement_timeout.
func (postgresDialect) blocked(err error) (locked, slow bool) {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false, false
	}
	return e.Code == "55P03", e.Code == "57014"
}

// failed closes a session after an error that concerns neither data nor locks: the session itself may be the reason, such as one that began while the
// database was read-only.
func (d postgresDialect) failed(conn *sql.Conn, err error) {
	var e *pgconn.PgError
	if locked, slow := d.blocked(err); locked || slow || d.permanent(err) || !errors.As(err, &e) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // ctx of the transaction may have ended
	defer cancel()
	_ = conn.Raw(func(driver any) error { return driver.(*stdlib.Conn).Conn().Close(ctx) }) // the pool opens another one
}

func column[T any](rows []*row, of func(*row) T) []T {
	values := make([]T, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

// permanent recognises the error classes about the data (22, 23, limits in 54). Other errors may pass or concern the server.
func (postgresDialect) permanent(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.ContainsFunc([]string{"22", "23", "54"}, func(class string) bool { return strings.HasPrefix(e.Code, class) })
}
