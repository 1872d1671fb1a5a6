package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"app-offload/cmd/offload-cloud/internal/ranges"
)

// place identifies a stream in messages of nodes.
type place struct{ name, epoch string }

// openStreams finds or creates the streams of the group, and locks their nodes until the end of the transaction. The order of locks is always the
// same, so that consumers that share a database do not deadlock.
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

// whose describes the nodes of the streams.
func whose(streams []*stream) string {
	switch len(streams) {
	case 0:
		return "nodes that confirm results"
	case 1:
		return "node " + streams[0].name
	}
	return fmt.Sprintf("%d streams, the first of node %s", len(streams), streams[0].name)
}

// errNewNodes means that nodes must be created before the transaction can lock them.
var errNewNodes = errors.New("nodes are new")

// makeNodes creates nodes in a separate transaction, in the order of their names: a transaction that has locked other nodes could deadlock.
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
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error { // an insert of an existing name would use up a number of the key
		return s.eachOf(ctx, tx, `INSERT INTO nodes (name) SELECT w.name FROM WANTED WHERE w.name NOT IN (SELECT name FROM nodes) ON CONFLICT DO NOTHING`,
			[]string{"name text"}, len(names), func(i int) []any { return []any{names[i]} }, nil)
	})
}

// lockNodes finds the nodes of streams and of confirmations, and locks them in the order of their names. It fails with errNewNodes if the node of a
// stream does not exist.
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
		for _, st := range byName[name] { // a clock that was set back costs an extra publication
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
			return fmt.Errorf("node %q, epoch %q: the stream is missing after its creation", st.name, st.epoch)
		}
	}
	return nil
}

// save writes the changes of the streams, with a few statements for any number of streams.
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
		return fmt.Errorf("writing the fates of the records: %w", err)
	}
	for _, st := range streams {
		if err := st.findGaps(ctx, tx); err != nil {
			return fmt.Errorf("node %s, epoch %s: finding gaps: %w", st.name, st.epoch, err)
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

// countNodes first sums over the streams of a node, because one statement changes a row once.
func (s *Store) countNodes(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	var sums []*stream
	for _, st := range streams { // streams of one node are adjacent
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

const (
	// near is the maximum distance of sequences that are looked up together. A live batch and one from an old backlog are far apart, and the spans in
	// between must not be read.
	near = 1024
	// gapsMax and walkMax bound a receipt and the search for its gaps; the next receipt continues.
	gapsMax = 64
	walkMax = 4096
)

// fatesOf selects the spans of a stream that overlap the sequences from the third parameter to the second.
const fatesOf = `SELECT low, high, fate FROM ranges WHERE stream = $1 AND low <= $2 AND high >= $3
	AND low >= COALESCE((SELECT MAX(low) FROM ranges WHERE stream = $1 AND low <= $3), 0) ORDER BY low`

// load reads the fates of all sequences of the group and of their neighbours, with which they may merge. It also reads the digests of the known
// sequences, to distinguish a repetition from another record with the same sequence.
func (s *Store) load(ctx context.Context, tx *sql.Tx, st *stream) error {
	for _, w := range st.windows() {
		spans, err := readSpans(ctx, tx, fatesOf, st.id, int64(w.Last), int64(w.First))
		if err != nil {
			return err
		}
		st.loaded = append(st.loaded, spans...)
	}
	st.loaded = slices.Compact(st.loaded) // they are in order; one span may reach into two windows
	st.fates = ranges.Of(st.loaded...)
	var known []int64
	for _, b := range st.batches {
		for i := range b.Records {
			if fate, _ := st.fates.Fate(b.Records[i].Sequence); fate == Stored || fate == Dead {
				known = append(known, int64(b.Records[i].Sequence))
			}
		}
	}
	st.contents = make(map[uint64]int64, len(known))
	if len(known) == 0 {
		return nil
	}
	return st.readContents(ctx, tx, s.dialect.among(), known)
}

// readContents reads the digests. Those of rows come last: they override the digest of a record that was unreadable at first.
func (st *stream) readContents(ctx context.Context, tx *sql.Tx, among string, sequences []int64) error {
	list, _ := json.Marshal(sequences) // numbers are always JSON
	for _, table := range []string{"doubles", "records"} {
		// #nosec G202 -- constants of this package, the values are parameters
		err := scan(ctx, tx, func(rows *sql.Rows) error {
			var sequence, content int64
			err := rows.Scan(&sequence, &content)
			if err == nil {
				st.contents[uint64(sequence)] = content
			}
			return err
		}, `SELECT sequence, content FROM `+table+` WHERE stream = $1 AND sequence IN `+among, st.id, string(list))
		if err != nil {
			return err
		}
	}
	return nil
}

// windows returns the ranges of sequences that the group affects, extended by one at both ends.
func (st *stream) windows() []ranges.Span {
	var touched []ranges.Span
	for _, b := range st.batches {
		for i := range b.Records {
			touched = append(touched, ranges.Span{First: b.Records[i].Sequence, Last: b.Records[i].Sequence})
		}
	}
	for _, g := range st.gone {
		touched = append(touched, g.Spans...)
	}
	slices.SortFunc(touched, func(a, b ranges.Span) int { return cmp.Compare(a.First, b.First) })
	var windows []ranges.Span
	for _, t := range touched {
		t.First, t.Last = t.First-min(t.First, 1), t.Last+1
		if n := len(windows); n > 0 && t.First <= windows[n-1].Last+near {
			windows[n-1].Last = max(windows[n-1].Last, t.Last)
			continue
		}
		windows = append(windows, ranges.Span{First: t.First, Last: t.Last})
	}
	return windows
}

// added returns the new and changed spans; in the common case that is the extended last span.
func (st *stream) added() (added []ranges.Span) {
	was := make(map[ranges.Span]bool, len(st.loaded))
	for _, span := range st.loaded {
		was[span] = true
	}
	for _, span := range st.fates.Spans() {
		if !was[span] {
			added = append(added, span)
		}
	}
	return added
}

// removeSpans deletes the spans that are now contained in another one. A span with an unchanged beginning is updated instead.
func (s *Store) removeSpans(ctx context.Context, tx *sql.Tx, st *stream) error {
	begins := map[uint64]bool{}
	for _, span := range st.fates.Spans() {
		begins[span.First] = true
	}
	var over []int64
	for _, span := range st.loaded {
		if !begins[span.First] {
			over = append(over, int64(span.First))
		}
	}
	if len(over) == 0 {
		return nil
	}
	list, err := json.Marshal(over)
	if err != nil {
		return err
	}
	// #nosec G202 -- a constant of this package, the values are parameters
	_, err = tx.ExecContext(ctx, `DELETE FROM ranges WHERE stream = $1 AND low IN `+s.dialect.among(), st.id, string(list))
	return err
}

// findGaps searches the sequences from the last one up to which all fates are known to the node's floor. Without gaps that takes a step or two,
// because the end of the search is stored.
func (st *stream) findGaps(ctx context.Context, tx *sql.Tx) error {
	if st.complete+1 >= st.low {
		return nil
	}
	for _, span := range st.fates.Spans() {
		if span.First <= uint64(st.complete+1) && span.Last >= uint64(st.low-1) { // all of it is one known span
			st.complete = st.low - 1
			return nil
		}
	}
	spans, err := readSpans(ctx, tx, `SELECT low, high, fate FROM ranges WHERE stream = $1 AND low < $2
		AND low >= COALESCE((SELECT MAX(low) FROM ranges WHERE stream = $1 AND low <= $3), 0) ORDER BY low LIMIT $4`,
		st.id, st.low, st.complete+1, walkMax)
	if err != nil {
		return err
	}
	first, last := uint64(st.complete+1), uint64(st.low-1)
	if len(spans) == walkMax {
		last = min(last, spans[walkMax-1].Last) // later sequences are unknown
	}
	st.gaps = ranges.Of(spans...).Gaps(first, last, gapsMax)
	if len(st.gaps) == 0 {
		st.complete = int64(last)
	} else {
		st.complete = int64(st.gaps[0].First) - 1
	}
	return nil
}

func readSpans(ctx context.Context, q querier, query string, args ...any) ([]ranges.Span, error) {
	return collect(ctx, q, func(rows *sql.Rows) (ranges.Span, error) {
		var low, high int64
		var fate string
		err := rows.Scan(&low, &high, &fate)
		return ranges.Span{First: uint64(low), Last: uint64(high), Fate: fate}, err
	}, query, args...)
}
