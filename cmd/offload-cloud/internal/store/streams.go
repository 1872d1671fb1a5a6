package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"app-offload/cmd/offload-cloud/internal/ranges"
)

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
	if err := s.lockNodes(ctx, tx, streams, g.Confirmed); err != nil {
		return nil, fmt.Errorf("locking the rows of %s: %w", whose(streams), err)
	}
	if err := s.findStreams(ctx, tx, streams); err != nil {
		return nil, fmt.Errorf("finding the streams of %s: %w", whose(streams), err)
	}
	return streams, nil
}

// whose names the first node of the streams.
func whose(streams []*stream) string {
	if len(streams) == 1 {
		return "node " + streams[0].name
	}
	return fmt.Sprintf("%d streams, the first of node %s", len(streams), streams[0].name)
}

// errNewNodes says that nodes are to be made before the transaction can lock them.
var errNewNodes = errors.New("nodes are new")

// makeNodes makes nodes in a transaction of its own, in the order of their names: one that has locked others already could wait for them in a circle.
func (s *Store) makeNodes(ctx context.Context, g *Group) error {
	var names []string
	for _, b := range g.Batches {
		names = append(names, b.Node)
	}
	for _, gone := range g.Gone {
		names = append(names, gone.Node)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error { // what is there must not be inserted, or it would burn a number of the key
		return s.eachOf(ctx, tx, `INSERT INTO nodes (name) SELECT w.name FROM WANTED WHERE w.name NOT IN (SELECT name FROM nodes) ON CONFLICT DO NOTHING`,
			[]string{"name text"}, len(names), func(i int) []any { return []any{names[i]} }, nil)
	})
}

// lockNodes finds the nodes of streams and those that confirm results, and locks them in the order of their names. It fails with errNewNodes where
// a stream's is not there.
func (s *Store) lockNodes(ctx context.Context, tx *sql.Tx, streams []*stream, confirmed []*Confirmed) error {
	byName := make(map[string][]*stream, len(streams))
	for _, st := range streams {
		byName[st.name] = append(byName[st.name], st)
	}
	found := func(rows *sql.Rows) error {
		var name string
		var id, seen int64
		err := rows.Scan(&name, &id, &seen)
		passed := time.Duration(now() - seen)
		for _, st := range byName[name] { // where the clock was set back it costs a publish too many
			st.node, st.away = id, seen > 0 && (passed > away || passed < -away)
		}
		return err
	}
	find := `SELECT name, id, seen FROM nodes WHERE name IN (SELECT w.name FROM WANTED) ORDER BY name` + s.dialect.forUpdate()
	var names []string
	for _, st := range streams {
		names = append(names, st.name)
	}
	for _, c := range confirmed {
		names = append(names, c.Node)
	}
	if err := s.eachOf(ctx, tx, find, []string{"name text"}, len(names), func(i int) []any { return []any{names[i]} }, found); err != nil {
		return err
	}
	if slices.ContainsFunc(streams, func(st *stream) bool { return st.node == 0 }) {
		return errNewNodes
	}
	return nil
}

func (s *Store) findStreams(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	byPlace := make(map[place]*stream, len(streams))
	for _, st := range streams {
		byPlace[st.place] = st
	}
	found := func(rows *sql.Rows) error {
		var p place
		var id, low, complete int64
		var session string
		err := rows.Scan(&p.name, &p.epoch, &id, &low, &session, &complete)
		if st := byPlace[p]; st != nil {
			st.id, st.low, st.session, st.complete = id, low, session, complete
		}
		return err
	}
	find := `SELECT w.name, s.epoch, s.id, s.low, s.session, s.complete FROM WANTED JOIN streams s ON s.node = w.node AND s.epoch = w.epoch`
	columns := []string{"node bigint", "name text", "epoch text"}
	places := func(of []*stream) func(i int) []any {
		return func(i int) []any { return []any{of[i].node, of[i].name, of[i].epoch} }
	}
	if err := s.eachOf(ctx, tx, find, columns, len(streams), places(streams), found); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(streams), func(st *stream) bool { return st.id != 0 })
	err := s.eachOf(ctx, tx, `INSERT INTO streams (node, epoch, low, complete) SELECT w.node, w.epoch, 0, 0 FROM WANTED WHERE true ON CONFLICT DO NOTHING`,
		columns, len(missing), places(missing), nil)
	if err != nil {
		return err
	}
	if err := s.eachOf(ctx, tx, find, columns, len(missing), places(missing), found); err != nil {
		return err
	}
	for _, st := range missing {
		if st.id == 0 {
			return fmt.Errorf("node %q, epoch %q: the stream is not there although it was made", st.name, st.epoch)
		}
	}
	return nil
}

// save writes what has changed of the streams, with few statements however many they are.
func (s *Store) save(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	var spans []streamSpan
	for _, st := range streams {
		for _, span := range st.added() {
			spans = append(spans, streamSpan{st.id, span})
		}
	}
	err := s.eachOf(ctx, tx, `INSERT INTO ranges (stream, low, high, fate) SELECT w.stream, w.low, w.high, w.fate FROM WANTED WHERE true
		ON CONFLICT (stream, low) DO UPDATE SET high = excluded.high, fate = excluded.fate`,
		[]string{"stream bigint", "low bigint", "high bigint", "fate text"}, len(spans),
		func(i int) []any {
			return []any{spans[i].stream, int64(spans[i].First), int64(spans[i].Last), spans[i].Fate}
		}, nil)
	if err != nil {
		return fmt.Errorf("writing what became of the records: %w", err)
	}
	for _, st := range streams {
		if err := st.findGaps(ctx, tx); err != nil {
			return fmt.Errorf("node %s, epoch %s: looking for gaps: %w", st.name, st.epoch, err)
		}
	}
	err = s.eachOf(ctx, tx, `UPDATE streams SET low = w.low, complete = w.complete, session = w.session FROM WANTED WHERE streams.id = w.id`,
		[]string{"id bigint", "low bigint", "complete bigint", "session text"}, len(streams),
		func(i int) []any {
			return []any{streams[i].id, streams[i].low, streams[i].complete, streams[i].session}
		}, nil)
	if err != nil {
		return fmt.Errorf("writing the floors: %w", err)
	}
	return s.countNodes(ctx, tx, streams)
}

// streamSpan is a span of a stream.
type streamSpan struct {
	stream int64
	ranges.Span
}

// countNodes adds up over the streams of a node first, because one statement changes a row once.
func (s *Store) countNodes(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	var sums []*stream
	for _, st := range streams { // those of a node follow each other
		if n := len(sums); n == 0 || sums[n-1].node != st.node {
			sums = append(sums, &stream{node: st.node})
		}
		sum := sums[len(sums)-1]
		sum.fresh, sum.repeats, sum.doubles = sum.fresh+st.fresh, sum.repeats+st.repeats, sum.doubles+st.doubles
		sum.conflicts = append(sum.conflicts, st.conflicts...)
	}
	err := s.eachOf(ctx, tx, fmt.Sprintf(`UPDATE nodes SET stored = nodes.stored + w.fresh, duplicate_records = nodes.duplicate_records + w.repeats,
		duplicate_tasks = nodes.duplicate_tasks + w.doubles, conflicts = nodes.conflicts + w.conflicts, seen = %d FROM WANTED WHERE nodes.id = w.node`, now()),
		[]string{"node bigint", "fresh bigint", "repeats bigint", "doubles bigint", "conflicts bigint"}, len(sums),
		func(i int) []any {
			return []any{sums[i].node, sums[i].fresh, sums[i].repeats, sums[i].doubles, len(sums[i].conflicts)}
		}, nil)
	if err != nil {
		return fmt.Errorf("counting for the nodes: %w", err)
	}
	return nil
}
