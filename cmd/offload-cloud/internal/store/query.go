package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

// NodeStats is the state of one node in the store.
type NodeStats struct {
	Node             string            `json:"node"`
	Records          int64             `json:"records"` // safe sequences
	Tasks            int64             `json:"tasks"`   // stored tasks, each counted once
	DuplicateRecords int64             `json:"duplicateRecords"`
	DuplicateTasks   int64             `json:"duplicateTasks"`
	Gaps             uint64            `json:"gaps"`           // missing sequences without an explanation
	Gone             map[string]uint64 `json:"gone,omitempty"` // sequences that the node declared gone, by reason
	Conflicts        int64             `json:"conflicts"`      // records whose sequence is used by another record
	DeadLetters      int64             `json:"deadLetters"`
	Epochs           int               `json:"epochs"`
	Seen             time.Time         `json:"seen"`
	Jobs             *JobCounts        `json:"jobs,omitempty"` // of records whose class has a model; nil without jobs
}

// Stats returns the statistics of all nodes at one moment, by name. It reads every span, so it is not for every message.
func (s *Store) Stats(ctx context.Context) ([]*NodeStats, error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("beginning to read the figures: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it has changed nothing
	all, byID, err := nodes(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("reading the nodes: %w", err)
	}
	if err := addFates(ctx, tx, byID); err != nil {
		return nil, fmt.Errorf("reading the fates of the records: %w", err)
	}
	if err := countJobs(ctx, tx, byID); err != nil {
		return nil, fmt.Errorf("counting the jobs: %w", err)
	}
	return all, nil
}

// nodes reads the counts of each node, by name and by number. A node without stored records is left out: makeNodes has just created it.
func nodes(ctx context.Context, tx *sql.Tx) (all []*NodeStats, byID map[int64]*NodeStats, err error) {
	letters, err := lettersOf(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	byID = map[int64]*NodeStats{}
	all, err = collect(ctx, tx, func(rows *sql.Rows) (*NodeStats, error) {
		var id, seen int64
		n := &NodeStats{Gone: map[string]uint64{}}
		err := rows.Scan(&id, &n.Node, &n.Tasks, &n.DuplicateRecords, &n.DuplicateTasks, &n.Conflicts, &seen)
		n.Seen, n.DeadLetters = time.Unix(0, seen).UTC(), letters[n.Node]
		byID[id] = n
		return n, err
	}, `SELECT id, name, stored, duplicate_records, duplicate_tasks, conflicts, seen FROM nodes WHERE seen > 0 OR stored > 0 ORDER BY name`)
	return all, byID, err
}

// lettersOf counts the dead letters of all nodes in one pass; a query for each node would read the table once for each.
func lettersOf(ctx context.Context, tx *sql.Tx) (map[string]int64, error) {
	counts := map[string]int64{}
	return counts, scan(ctx, tx, func(rows *sql.Rows) error {
		var node string
		var n int64
		err := rows.Scan(&node, &n)
		counts[node] = n
		return err
	}, `SELECT node, COUNT(*) FROM dead_letters GROUP BY node`)
}

// addFates reads the spans of each stream in order, and counts sequences between them, below the floor, as gaps.
func addFates(ctx context.Context, tx *sql.Tx, nodes map[int64]*NodeStats) error {
	var stream, node, floor, known int64 // known: all below it of this stream is counted
	err := scan(ctx, tx, func(rows *sql.Rows) error {
		var id, of, low, first, last int64
		var fate string
		if err := rows.Scan(&id, &of, &low, &first, &last, &fate); err != nil {
			return err
		}
		if id != stream {
			nodes[node].gap(known, floor)
			stream, node, floor, known = id, of, low, 1
			nodes[node].Epochs++
		}
		if fate != "" {
			nodes[node].gap(known, min(first, floor))
			nodes[node].add(ranges.Span{First: uint64(first), Last: uint64(last), Fate: fate})
			known = last + 1
		}
		return nil
	}, `SELECT s.id, s.node, s.low, COALESCE(r.low, 0), COALESCE(r.high, 0), COALESCE(r.fate, '')
		FROM streams s LEFT JOIN ranges r ON r.stream = s.id ORDER BY s.id, r.low`)
	nodes[node].gap(known, floor)
	return err
}

func (n *NodeStats) gap(from, to int64) {
	if n != nil && to > from {
		n.Gaps += uint64(to - from)
	}
}

func (n *NodeStats) add(span ranges.Span) {
	if span.Fate == Stored || span.Fate == Dead {
		n.Records += int64(span.Len())
		return
	}
	n.Gone[span.Fate] += span.Len()
}

// Found is a stored task.
type Found struct {
	ID      int64 // in order of arrival
	Node    string
	Task    *task.Task // empty if the row is unreadable
	Problem string     // why the row is unreadable, such as a damaged database file; "" if it is readable
}

// Filter selects events; an empty field selects all.
type Filter struct {
	Node, Device string
	After        int64 // only ids above this one
	Limit        int
}

// First returns the first task of each event, in order of arrival. All whole events are returned: two events with one id have different content.
// Tasks that an open transaction may still precede are left out, so a caller that continues after the last one misses none.
func (s *Store) First(ctx context.Context, f Filter) ([]*Found, error) {
	last, err := s.dialect.bound(ctx, s.read)
	if err != nil {
		return nil, fmt.Errorf("determining how far tasks may be read: %w", err)
	}
	return s.found(ctx, `r.id > $1 AND r.id <= $5 AND ($2 = '' OR n.name = $2) AND ($3 = '' OR r.device = $3) AND (r.parts = 1 OR NOT EXISTS (
		SELECT 1 FROM records o WHERE o.origin = r.origin AND o.event_id = r.event_id AND o.node = r.node AND o.device = r.device
			AND o.source = r.source AND o.id < r.id)) ORDER BY r.id LIMIT $4`,
		f.After, f.Node, f.Device, f.Limit, last)
}

// Of returns all tasks of a task's event, by chunk.
func (s *Store) Of(ctx context.Context, one *Found) ([]*Found, error) {
	t := one.Task
	return s.found(ctx, `r.origin = $1 AND r.event_id = $2 AND n.name = $3 AND r.device = $4 AND r.source = $5 ORDER BY r.chunk, r.id`,
		t.Origin, t.EventID, one.Node, t.Device, t.Source)
}

func (s *Store) found(ctx context.Context, where string, args ...any) ([]*Found, error) {
	all, err := collect(ctx, s.read, func(rows *sql.Rows) (*Found, error) {
		f := &Found{}
		var meta, data []byte
		err := rows.Scan(&f.ID, &f.Node, &meta, &data)
		if err != nil {
			return nil, err
		}
		if f.Task, err = join(meta, data); err != nil {
			f.Task, f.Problem = &task.Task{Of: 1}, fmt.Sprintf("record %d of the database is damaged: %v", f.ID, err)
		}
		return f, nil
	}, `SELECT r.id, n.name, r.meta, r.data FROM records r JOIN nodes n ON n.id = r.node WHERE `+where, args...) // #nosec G202 -- where is one of this file's own constants
	if err != nil {
		return nil, fmt.Errorf("reading tasks: %w", err)
	}
	return all, nil
}

// dataField is the number of the data in a task's record; see task.proto.
const dataField = 13

// join restores a record from its two columns and decodes it. The order of the fields in a record is irrelevant.
func join(meta, data []byte) (*task.Task, error) {
	record := make([]byte, 0, len(meta)+len(data)+16)
	record = append(record, meta...)
	if len(data) > 0 {
		record = protowire.AppendBytes(protowire.AppendTag(record, dataField, protowire.BytesType), data)
	}
	return task.Decode(record)
}
