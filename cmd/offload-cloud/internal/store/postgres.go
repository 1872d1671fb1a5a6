package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

type postgresDialect struct{}

// openPostgres connects through a pool; its size is the URL's pool_max_conns. The server must not run with
// synchronous_commit off, so every session turns it on.
func openPostgres(ctx context.Context, dsn string, opts Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The driver's own words repeat the URL, and with it, in some spellings, the password.
		return nil, errors.New("the store's URL cannot be read; write it like postgres://user@host:5432/database, and characters other than letters and digits in a password as %XX")
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "offload-cloud"
	}
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the store: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting to the store: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	return &Store{write: db, read: db, opts: opts, dialect: postgresDialect{}, close: func() error {
		err := db.Close()
		pool.Close()
		return err
	}}, nil
}

func (postgresDialect) name() string                               { return "PostgreSQL" }
func (postgresDialect) inside(ctx context.Context) context.Context { return ctx } // a server may take for ever
func (postgresDialect) forUpdate() string                          { return " FOR UPDATE" }
func (postgresDialect) schema() []string {
	return schema("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA", "")
}

// guard serialises first starts: CREATE TABLE IF NOT EXISTS alone fails when two of them race. The number is arbitrary but fixed.
func (postgresDialect) guard(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(8317001)`)
	return err
}

const insertPostgres = `INSERT INTO records (stream, sequence, node, event_id, chunk, parts, digest, class, device, source, resource, origin, stored, meta, data)
	SELECT a, b, c, d, e, f, g, h, i, j, k, l, $13::bigint, m, n
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[], $8::text[], $9::text[],
		$10::text[], $11::text[], $12::bigint[], $14::bytea[], $15::bytea[]) AS t (a, b, c, d, e, f, g, h, i, j, k, l, m, n)
	ON CONFLICT DO NOTHING RETURNING stream, sequence`

// insert sends all rows as one statement of arrays: one round trip whatever the number of rows.
func (postgresDialect) insert(ctx context.Context, tx *sql.Tx, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	found, err := tx.QueryContext(ctx, insertPostgres,
		column(rows, func(r *row) int64 { return r.stream }), column(rows, func(r *row) int64 { return r.sequence }),
		column(rows, func(r *row) int64 { return r.node }), column(rows, func(r *row) string { return r.task.EventID }),
		column(rows, func(r *row) int32 { return int32(r.task.Chunk) }), column(rows, func(r *row) int32 { return int32(r.task.Of) }),
		column(rows, func(r *row) int64 { return r.digest }), column(rows, func(r *row) string { return r.class }),
		column(rows, func(r *row) string { return r.task.Device }), column(rows, func(r *row) string { return r.task.Source }),
		column(rows, func(r *row) string { return r.task.Resource }), column(rows, func(r *row) int64 { return r.task.Origin }),
		now(), column(rows, func(r *row) []byte { return r.meta }), column(rows, func(r *row) []byte { return r.data }))
	if err != nil {
		return fmt.Errorf("storing %d records: %w", len(rows), err)
	}
	defer found.Close() //nolint:errcheck // Err below tells
	type place struct{ stream, sequence int64 }
	fresh := make(map[place]bool, len(rows))
	for found.Next() {
		var p place
		if err := found.Scan(&p.stream, &p.sequence); err != nil {
			return fmt.Errorf("storing %d records: %w", len(rows), err)
		}
		fresh[p] = true
	}
	for _, r := range rows {
		r.fresh = fresh[place{r.stream, r.sequence}]
	}
	return found.Err()
}

func column[T any](rows []*row, of func(*row) T) []T {
	values := make([]T, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

// permanent knows the classes that speak of the data (22, 23, limits in 54); anything else passes or is a matter of the server.
func (postgresDialect) permanent(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) < 2 {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
