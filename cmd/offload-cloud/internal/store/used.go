package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"app-offload/functions/forward"
)

// Mark is the end of the counted use: records up to an id, and jobs up to the number of their answer.
type Mark struct {
	Record   int64 `json:"record"`
	Answered int64 `json:"answered"`
}

// Use is a node's use of the cloud for a class.
type Use struct {
	Records int64 `json:"records"`           // stored records
	Bytes   int64 `json:"bytes"`             // size of their data
	Jobs    int64 `json:"jobs,omitempty"`    // jobs with an answer
	Results int64 `json:"results,omitempty"` // results of local work among the records
}

// Uses holds uses by node and class.
type Uses map[string]map[string]*Use

func (u Uses) of(node, class string) *Use {
	if u[node] == nil {
		u[node] = map[string]*Use{}
	}
	if u[node][class] == nil {
		u[node][class] = &Use{}
	}
	return u[node][class]
}

// resultsOf returns the class whose results a class contains, following the names of functions/forward.
func resultsOf(class string) (of string, are bool) { return strings.CutSuffix(class, "-results") }

// Settled returns a mark for rows stored at least lag ago, to which nothing is added any more. Open transactions hold ids that are not visible yet,
// so lag must exceed the duration of a transaction.
func (s *Store) Settled(ctx context.Context, lag time.Duration) (m Mark, err error) {
	err = s.read.QueryRowContext(ctx, s.sql(`SELECT COALESCE((SELECT MAX(id) FROM records WHERE stored <= NOW - $1), 0),
		COALESCE((SELECT MAX(number) FROM jobs WHERE state >= 2 AND answered <= NOW - $2), 0)`), int64(lag), int64(lag)).Scan(&m.Record, &m.Answered)
	if err != nil {
		return m, fmt.Errorf("reading what was stored: %w", err)
	}
	return m, nil
}

// Used returns the use of nodes after one mark and up to another. A record counts as a result if it says that local work made it.
func (s *Store) Used(ctx context.Context, after, upTo Mark) (Uses, error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("beginning to count what was used: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it has changed nothing
	all := Uses{}
	if err := used(ctx, tx, all, after, upTo); err != nil {
		return nil, fmt.Errorf("counting what was used: %w", err)
	}
	return all, nil
}

func used(ctx context.Context, tx *sql.Tx, all Uses, after, upTo Mark) error {
	err := scan(ctx, tx, func(rows *sql.Rows) error {
		var node, class string
		var records, bytes int64
		err := rows.Scan(&node, &class, &records, &bytes)
		if err == nil {
			u := all.of(node, class)
			u.Records, u.Bytes = records, bytes
		}
		return err
	}, `SELECT n.name, r.class, COUNT(*), CAST(SUM(LENGTH(r.data)) AS BIGINT) FROM records r JOIN nodes n ON n.id = r.node WHERE r.id > $1 AND r.id <= $2 GROUP BY 1, 2`,
		after.Record, upTo.Record)
	if err != nil {
		return err
	}
	err = scan(ctx, tx, func(rows *sql.Rows) error {
		var node, class string
		var jobs int64
		err := rows.Scan(&node, &class, &jobs)
		if err == nil {
			all.of(node, class).Jobs = jobs
		}
		return err
	}, `SELECT n.name, j.class, COUNT(*) FROM jobs j JOIN nodes n ON n.id = j.node WHERE j.state >= 2 AND j.ok = 1 AND j.number > $1 AND j.number <= $2 GROUP BY 1, 2`,
		after.Answered, upTo.Answered)
	if err != nil {
		return err
	}
	return scan(ctx, tx, func(rows *sql.Rows) error {
		var node, class string
		var meta, data []byte
		if err := rows.Scan(&node, &class, &meta, &data); err != nil {
			return err
		}
		of, are := resultsOf(class)
		if t, err := join(meta, data); are && err == nil && t.Policy == forward.Policy {
			all.of(node, of).Results++
		}
		return nil
	}, `SELECT n.name, r.class, r.meta, r.data FROM records r JOIN nodes n ON n.id = r.node WHERE r.id > $1 AND r.id <= $2 AND r.class LIKE '%-results'`, after.Record, upTo.Record)
}

// Nodes returns the names of all nodes that have sent anything.
func (s *Store) Nodes(ctx context.Context) (names []string, err error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("listing the nodes: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it has changed nothing
	err = scan(ctx, tx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT name FROM nodes ORDER BY name`)
	return names, err
}

// querier is the database, or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect converts each row of a query and returns the list.
func collect[T any](ctx context.Context, q querier, one func(*sql.Rows) (T, error), query string, args ...any) (all []T, err error) {
	err = scan(ctx, q, func(rows *sql.Rows) error {
		v, err := one(rows)
		all = append(all, v)
		return err
	}, query, args...)
	return all, err
}

// scan calls each for every row of a query.
func scan(ctx context.Context, q querier, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err below reports it
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
