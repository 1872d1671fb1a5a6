package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"

	"app-offload/cmd/offload-cloud/internal/ranges"
)

const (
	// near is how far apart two sequences may be to be looked up together. A live batch and one from an old backlog are
	// far apart, and what lies between them must not be read.
	near = 1024
	// gapsMax and walkMax bound a receipt and the search for what it names; the next receipt goes on with what is left.
	gapsMax = 64
	walkMax = 4096
)

// fatesOf reads the spans of a stream that reach into the sequences up to the second parameter, from the third on.
const fatesOf = `SELECT low, high, fate FROM ranges WHERE stream = $1 AND low <= $2 AND high >= $3
	AND low >= COALESCE((SELECT MAX(low) FROM ranges WHERE stream = $1 AND low <= $3), 0) ORDER BY low`

// load reads the fates of all sequences the group touches, and of their neighbours, with which they may become one span.
// It also reads the digests of those sequences that are known, to distinguish a repetition from another record under the same number.
func (s *Store) load(ctx context.Context, tx *sql.Tx, st *stream) error {
	for _, w := range st.windows() {
		spans, err := readSpans(ctx, tx, fatesOf, st.id, int64(w.Last), int64(w.First))
		if err != nil {
			return err
		}
		st.loaded = append(st.loaded, spans...)
	}
	slices.SortFunc(st.loaded, func(a, b ranges.Span) int { return int(int64(a.First) - int64(b.First)) })
	st.loaded = slices.Compact(st.loaded) // one span may reach into two windows
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

// readContents looks the digests up. Those of rows come last: they replace that of a record which was unreadable at first.
func (st *stream) readContents(ctx context.Context, tx *sql.Tx, among string, sequences []int64) error {
	list, err := json.Marshal(sequences)
	if err != nil {
		return err
	}
	for _, table := range []string{"doubles", "records"} {
		// #nosec G202 -- constants of this package, the values are parameters
		rows, err := tx.QueryContext(ctx, `SELECT sequence, content FROM `+table+` WHERE stream = $1 AND sequence IN `+among, st.id, string(list))
		if err != nil {
			return err
		}
		for rows.Next() {
			var sequence, content int64
			if err := rows.Scan(&sequence, &content); err != nil {
				return errors.Join(err, rows.Close())
			}
			st.contents[uint64(sequence)] = content
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}

// windows are the stretches of sequences that the group touches, each one wider at both ends.
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
	slices.SortFunc(touched, func(a, b ranges.Span) int { return int(int64(a.First) - int64(b.First)) })
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

// added are the spans that are not in the table as they are now; in the common case that is the last one, grown.
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

// removeSpans deletes the spans that another one contains now. One that begins where another began is written over instead.
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

// findGaps walks from the last sequence up to which everything is known to the node's floor. Without a gap that is a
// step or two, because the end of the walk is remembered.
func (st *stream) findGaps(ctx context.Context, tx *sql.Tx) error {
	if st.complete+1 >= st.low {
		return nil
	}
	for _, span := range st.fates.Spans() {
		if span.First <= uint64(st.complete+1) && span.Last >= uint64(st.low-1) { // all of it is one span, which is known already
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
		last = min(last, spans[walkMax-1].Last) // nothing is known of what lies behind
	}
	st.gaps = ranges.Of(spans...).Gaps(first, last, gapsMax)
	if len(st.gaps) == 0 {
		st.complete = int64(last)
	} else {
		st.complete = int64(st.gaps[0].First) - 1
	}
	return nil
}

func readSpans(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]ranges.Span, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return scanSpans(rows)
}

func scanSpans(rows *sql.Rows) ([]ranges.Span, error) {
	defer rows.Close() //nolint:errcheck // Err below reports it
	var spans []ranges.Span
	for rows.Next() {
		var low, high int64
		var fate string
		if err := rows.Scan(&low, &high, &fate); err != nil {
			return nil, err
		}
		spans = append(spans, ranges.Span{First: uint64(low), Last: uint64(high), Fate: fate})
	}
	return spans, rows.Err()
}
