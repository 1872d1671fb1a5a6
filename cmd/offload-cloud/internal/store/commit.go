package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

// row is a record on its way into the table.
type row struct {
	stream, sequence, node int64
	task                   *task.Task
	class                  string
	digest                 int64
	meta, data             []byte
	in                     *stream
	fresh                  bool
}

// stream is one epoch of one node while a transaction works on it.
type stream struct {
	place
	id, node int64
	low      int64 // the highest floor the node has named
	complete int64 // every sequence up to here has a known fate
	batches  []*Batch
	gone     []*Gone
	seqs     []uint64      // sequences that the group brings
	loaded   []ranges.Span // what the tables said of the sequences around these
	fates    *ranges.Map   // the same, with what the group changes
	safe     []ranges.Span
	gaps     []ranges.Span
	fresh    int64
	repeats  int64 // sequences known before
	doubles  int64 // new sequences of tasks known before
	dead     []*Letter
}

// Commit stores the group in one transaction and says what may be receipted. After an error nothing of it is stored.
func (s *Store) Commit(ctx context.Context, g *Group) (*Result, error) {
	result := &Result{}
	err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		*result = Result{}
		streams, err := s.openStreams(ctx, tx, g)
		if err != nil {
			return err
		}
		if err := s.storeRecords(ctx, tx, streams, result); err != nil {
			return err
		}
		for _, st := range streams {
			if err := s.settle(ctx, tx, st); err != nil {
				return fmt.Errorf("node %s, epoch %s: %w", st.name, st.epoch, err)
			}
			result.add(st)
		}
		if err := s.countNodes(ctx, tx, streams); err != nil {
			return err
		}
		return s.storeLetters(ctx, tx, g, streams, result)
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (r *Result) add(st *stream) {
	r.DuplicateRecords += int(st.repeats)
	r.DuplicateTasks += int(st.doubles)
	r.DeadRecords += len(st.dead)
	r.Receipts = append(r.Receipts, Receipt{Node: st.name, Epoch: st.epoch, Safe: st.safe, Gaps: st.gaps})
}

// storeRecords sorts out which records are new, by sequence, and stores those of them whose task is new too.
func (s *Store) storeRecords(ctx context.Context, tx *sql.Tx, streams []*stream, result *Result) error {
	var rows []*row
	for _, st := range streams {
		if err := st.load(ctx, tx); err != nil {
			return fmt.Errorf("node %s, epoch %s: reading what is known: %w", st.name, st.epoch, err)
		}
		for _, b := range st.batches {
			for i := range b.Records {
				if r := st.take(&b.Records[i]); r != nil {
					rows = append(rows, r)
				}
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := s.dialect.insert(ctx, tx, rows); err != nil {
		return err
	}
	for _, r := range rows {
		if !r.fresh {
			r.in.doubles++
			continue
		}
		r.in.fresh++
		result.Fresh = append(result.Fresh, Fresh{r.in.name, r.in.epoch, uint64(r.sequence), r.task})
	}
	return nil
}

// take decides what is to be done with one record: a new one becomes a row, or a dead letter if it cannot be decoded.
func (st *stream) take(r *Record) *row {
	st.seqs = append(st.seqs, r.Sequence)
	if r.Task != nil {
		if problem := unfit(r.Task); problem != "" {
			r.Raw, r.Problem, r.Task = r.Task.Append(nil), problem, nil
		}
	}
	fate, _ := st.fates.Fate(r.Sequence)
	switch {
	case fate == Stored, fate == Dead && r.Task == nil:
		st.repeats++
		return nil
	case r.Task == nil:
		st.fates.Set(ranges.Span{First: r.Sequence, Last: r.Sequence, Fate: Dead})
		st.dead = append(st.dead, &Letter{
			Node: st.name, Epoch: st.epoch, Sequence: r.Sequence, IsRecord: true, Reason: "record", Detail: r.Problem, Raw: r.Raw,
		})
		return nil
	}
	st.fates.Set(ranges.Span{First: r.Sequence, Last: r.Sequence, Fate: Stored})
	return st.row(r)
}

// textMax bounds the names in a record. They stand in indexes, whose entries PostgreSQL limits to 2,704 bytes.
const textMax = 512

// unfit says why a database could not hold a task, "" if it can. PostgreSQL's text takes neither NUL nor broken UTF-8.
func unfit(t *task.Task) string {
	names := [...]string{t.EventID, t.Device, t.Source, t.Resource, ""}
	if t.Class != nil {
		names[4] = t.Class.Name
	}
	for _, name := range names {
		if len(name) > textMax || !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0 {
			return fmt.Sprintf("the name %.40q is longer than %d bytes or not clean UTF-8", name, textMax)
		}
	}
	if t.Chunk < 0 || t.Chunk > math.MaxInt32 || t.Of < 0 || t.Of > math.MaxInt32 {
		return fmt.Sprintf("chunk %d of %d is out of range", t.Chunk, t.Of)
	}
	return ""
}

// castagnoli has an instruction of its own on the processors this runs on.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// row keeps the data apart from the rest of the task, so that people can read it in the tables.
func (st *stream) row(r *Record) *row {
	frame := *r.Task
	frame.Data = nil
	out := &row{
		stream: st.id, sequence: int64(r.Sequence), node: st.node, task: r.Task, in: st,
		digest: int64(crc32.Checksum(r.Task.Data, castagnoli)), meta: frame.Append(nil), data: r.Task.Data,
	}
	if out.data == nil {
		out.data = []byte{} // NULL would be something else
	}
	if r.Task.Class != nil {
		out.class = r.Task.Class.Name
	}
	return out
}

// settle writes the fates back, looks for gaps below the floor and makes up the receipt.
func (s *Store) settle(ctx context.Context, tx *sql.Tx, st *stream) error {
	for _, g := range st.gone {
		for _, span := range g.Spans {
			st.fates.Fill(span)
		}
	}
	if err := st.save(ctx, tx); err != nil {
		return fmt.Errorf("writing what became of the records: %w", err)
	}
	for _, b := range st.batches {
		st.low = max(st.low, int64(b.Floor))
	}
	if err := st.findGaps(ctx, tx); err != nil {
		return fmt.Errorf("looking for gaps: %w", err)
	}
	st.safe = ranges.Compact(st.seqs)
	_, err := tx.ExecContext(ctx, `UPDATE streams SET low = $1, complete = $2 WHERE id = $3`, st.low, st.complete, st.id)
	if err != nil {
		return fmt.Errorf("writing the floor: %w", err)
	}
	return nil
}

func (s *Store) countNodes(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	at := now()
	for _, st := range streams {
		_, err := tx.ExecContext(ctx, `UPDATE nodes SET stored = stored + $1, duplicate_records = duplicate_records + $2,
			duplicate_tasks = duplicate_tasks + $3, seen = $4 WHERE id = $5`, st.fresh, st.repeats, st.doubles, at, st.node)
		if err != nil {
			return fmt.Errorf("counting for node %s: %w", st.name, err)
		}
	}
	return nil
}

// place names a stream in what nodes send.
type place struct{ name, epoch string }

// openStreams finds or makes the streams of the group and locks their nodes until the transaction ends, in one order for
// all, so that consumers that share a database wait for each other instead of blocking each other.
func (s *Store) openStreams(ctx context.Context, tx *sql.Tx, g *Group) ([]*stream, error) {
	found := map[place]*stream{}
	at := func(node, epoch string) *stream {
		p := place{node, epoch}
		if found[p] == nil {
			found[p] = &stream{place: p}
		}
		return found[p]
	}
	for _, b := range g.Batches {
		st := at(b.Node, b.Epoch)
		st.batches = append(st.batches, b)
	}
	for _, gone := range g.Gone {
		st := at(gone.Node, gone.Epoch)
		st.gone = append(st.gone, gone)
	}
	streams := make([]*stream, 0, len(found))
	for _, st := range found {
		streams = append(streams, st)
	}
	slices.SortFunc(streams, func(a, b *stream) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.epoch, b.epoch))
	})
	for _, st := range streams {
		if err := s.open(ctx, tx, st); err != nil {
			return nil, fmt.Errorf("node %s, epoch %s: finding the stream: %w", st.name, st.epoch, err)
		}
	}
	return streams, nil
}

// open looks first and inserts only if it must: an insert that meets its row would still burn a number of the key.
func (s *Store) open(ctx context.Context, tx *sql.Tx, st *stream) error {
	nodeQuery := `SELECT id FROM nodes WHERE name = $1` + s.dialect.forUpdate()
	err := findOrInsert(ctx, tx, nodeQuery, `INSERT INTO nodes (name) VALUES ($1) ON CONFLICT DO NOTHING`, []any{st.name}, &st.node)
	if err != nil {
		return err
	}
	return findOrInsert(ctx, tx, `SELECT id, low, complete FROM streams WHERE node = $1 AND epoch = $2`,
		`INSERT INTO streams (node, epoch, low, complete) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING`,
		[]any{st.node, st.epoch}, &st.id, &st.low, &st.complete)
}

func findOrInsert(ctx context.Context, tx *sql.Tx, query, insert string, key []any, into ...any) error {
	err := tx.QueryRowContext(ctx, query, key...).Scan(into...)
	if err != sql.ErrNoRows {
		return err
	}
	if _, err := tx.ExecContext(ctx, insert, key...); err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, query, key...).Scan(into...)
}
