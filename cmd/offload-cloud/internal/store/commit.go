package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

// row is a record to be inserted.
type row struct {
	stream, sequence, node int64
	task                   *task.Task
	class, model           string
	content                int64
	meta, data             []byte
	in                     *stream
	fresh                  bool
}

// stream is the state of one epoch of one node during a transaction.
type stream struct {
	place
	id, node  int64
	low       int64  // the highest floor that the node has sent
	session   string // session that sent it
	away      bool   // the node was silent for a long time
	complete  int64  // every sequence up to here has a known fate
	batches   []*Batch
	gone      []*Gone
	answers   []*answer        // by session, in order of arrival
	loaded    []ranges.Span    // spans in the tables around the sequences of the group
	fates     *ranges.Map      // the same, with the changes of the group
	contents  map[uint64]int64 // stored digests of the sequences of the group
	gaps      []ranges.Span
	fresh     int64
	repeats   int64 // sequences already stored
	doubles   int64 // new sequences of tasks already stored
	dead      []*Letter
	conflicts []*Letter
}

// answer is the receipt of one session's batches, under construction.
type answer struct {
	session             string
	floor               int64
	sequences, conflict []uint64
}

// answer returns the answer for batches of the session.
func (st *stream) answer(session string) *answer {
	for _, a := range st.answers {
		if a.session == session {
			return a
		}
	}
	a := &answer{session: session}
	st.answers = append(st.answers, a)
	return a
}

// carefulMax is the number of commits that expect repeated tasks after a commit that met some: repetitions come in bursts, such as after a spool was recreated.
const carefulMax = 16

// Commit stores the group in one transaction and returns what may be receipted. After an error, nothing of the group is stored.
func (s *Store) Commit(ctx context.Context, g *Group) (*Result, error) {
	careful := s.careful.Load() > 0
	result, err := s.commit(ctx, g, careful)
	if errors.Is(err, errNewNodes) {
		if err := s.makeNodes(ctx, g); err != nil {
			return nil, fmt.Errorf("making nodes: %w", err)
		}
		result, err = s.commit(ctx, g, careful)
	}
	if !careful && s.dialect.repeated(err) {
		s.careful.Store(carefulMax)
		return s.commit(ctx, g, true)
	}
	if err == nil && careful && result.DuplicateTasks == 0 {
		s.careful.Add(-1)
	}
	return result, err
}

func (s *Store) commit(ctx context.Context, g *Group, careful bool) (*Result, error) {
	result := &Result{}
	err := s.transact(ctx, func(ctx context.Context, tx *transaction) error {
		tx.careful = careful
		if g.Hasty {
			if err := s.dialect.hasten(ctx, tx.Tx); err != nil {
				return fmt.Errorf("shortening the wait for locks: %w", err)
			}
		}
		return s.storeAll(ctx, tx, g, result)
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (s *Store) storeAll(ctx context.Context, tx *transaction, g *Group, result *Result) error {
	streams, err := s.openStreams(ctx, tx.Tx, g)
	if err != nil {
		return err
	}
	if err := s.storeRecords(ctx, tx, streams, result); err != nil {
		return err
	}
	for _, st := range streams {
		if err := s.settle(ctx, tx.Tx, st); err != nil {
			return fmt.Errorf("node %s, epoch %s: %w", st.name, st.epoch, err)
		}
	}
	if err := s.save(ctx, tx.Tx, streams); err != nil {
		return err
	}
	for _, st := range streams {
		result.add(st)
	}
	if result.Confirmed, err = s.confirm(ctx, tx.Tx, g.Confirmed); err != nil {
		return err
	}
	if err := s.returned(ctx, tx.Tx, streams); err != nil {
		return err
	}
	if err := s.storeLetters(ctx, tx.Tx, g, streams, result); err != nil {
		return err
	}
	_, err = removeLetters(ctx, tx.Tx, g.Settled) // at the end, or SQLite would use their ids again, and a retry would overlook the new letters
	return err
}

func (r *Result) add(st *stream) {
	r.DuplicateRecords += int(st.repeats)
	r.DuplicateTasks += int(st.doubles)
	r.DeadRecords += len(st.dead)
	r.Conflicts += len(st.conflicts)
	for _, a := range st.answers {
		r.Receipts = append(r.Receipts, Receipt{
			Node: st.name, Epoch: st.epoch, Session: a.session,
			Safe: a.safe(), Gaps: st.gapsFor(a), Conflicts: ranges.Compact(a.conflict),
		})
	}
}

// safe excludes sequences that are also in conflict: if copies of a node send no session, the receipt reaches both.
func (a *answer) safe() []ranges.Span {
	if len(a.conflict) == 0 {
		return ranges.Compact(a.sequences)
	}
	unsafe := ranges.Of(ranges.Compact(a.conflict)...)
	return ranges.Compact(slices.DeleteFunc(a.sequences, func(seq uint64) bool {
		_, found := unsafe.Fate(seq)
		return found
	}))
}

// gapsFor returns the gaps that a session can fill or explain. If another session has sent the floor (a spool restored from a copy has an earlier
// one), the session knows only gaps below its own floor.
func (st *stream) gapsFor(a *answer) []ranges.Span {
	if a.session == "" || st.session == "" || a.session == st.session {
		return st.gaps
	}
	var gaps []ranges.Span
	for _, gap := range st.gaps {
		if int64(gap.First) < a.floor {
			gap.Last = min(gap.Last, uint64(a.floor-1))
			gaps = append(gaps, gap)
		}
	}
	return gaps
}

// storeRecords finds the new records, by sequence and content, and stores those whose task is new as well.
func (s *Store) storeRecords(ctx context.Context, tx *transaction, streams []*stream, result *Result) error {
	var rows []*row
	var others []*row // sequences without a row of their own
	for _, st := range streams {
		if err := s.load(ctx, tx.Tx, st); err != nil {
			return fmt.Errorf("node %s, epoch %s: reading what is known: %w", st.name, st.epoch, err)
		}
		for _, b := range st.batches {
			a := st.answer(b.Session)
			a.floor = max(a.floor, int64(b.Floor))
			for i := range b.Records {
				switch r := st.take(&b.Records[i], a); {
				case r == nil:
				case r.task == nil:
					others = append(others, r)
				default:
					rows = append(rows, r)
				}
			}
		}
		if len(st.gone) > 0 && len(st.answers) == 0 {
			st.answer("")
		}
	}
	if len(rows) > 0 {
		if err := s.dialect.insert(ctx, tx, rows); err != nil {
			return err
		}
		var err error
		if result.Jobs, err = s.addJobs(ctx, tx.Tx, rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if !r.fresh {
			r.in.doubles++
			others = append(others, r)
			continue
		}
		r.in.fresh++
		result.Fresh = append(result.Fresh, Fresh{r.in.name, r.in.epoch, uint64(r.sequence), r.task})
	}
	if len(others) == 0 {
		return nil
	}
	if err := s.dialect.remember(ctx, tx.Tx, others); err != nil {
		return fmt.Errorf("remembering %d repeated or unreadable records: %w", len(others), err)
	}
	return nil
}

// take decides about one record. A new record becomes a row, without a task if it cannot be decoded and is quarantined. A known record with the same
// content is a repetition. With different content, the sequence was used twice: the record is a conflict. If only the sequence is known (its row was
// deleted, or an earlier version did not store the digest), the record is stored.
func (st *stream) take(r *Record, a *answer) *row {
	if r.Task != nil {
		if problem := unfit(r.Task); problem != "" {
			r.Raw, r.Problem, r.Task = r.Task.Append(nil), problem, nil
		}
	}
	content := contentOf(r)
	fate, _ := st.fates.Fate(r.Sequence)
	known, have := st.contents[r.Sequence]
	have = have && (fate == Stored || fate == Dead)
	switch {
	case have && known == content:
		a.sequences = append(a.sequences, r.Sequence)
		st.repeats++
		return nil
	case have && !(fate == Dead && r.Task != nil): // a formerly unreadable record may have become readable
		a.conflict = append(a.conflict, r.Sequence)
		st.conflicts = append(st.conflicts, st.conflict(r))
		return nil
	}
	a.sequences = append(a.sequences, r.Sequence)
	st.contents[r.Sequence] = content
	if r.Task == nil {
		st.fates.Set(ranges.Span{First: r.Sequence, Last: r.Sequence, Fate: Dead})
		st.dead = append(st.dead, &Letter{
			Node: st.name, Epoch: st.epoch, Sequence: r.Sequence, IsRecord: true, Reason: "record", Detail: r.Problem, Raw: r.Raw,
		})
		return &row{stream: st.id, sequence: int64(r.Sequence), content: content, in: st}
	}
	st.fates.Set(ranges.Span{First: r.Sequence, Last: r.Sequence, Fate: Stored})
	return st.row(r, content)
}

// conflict returns the letter of a record whose sequence is used by another record.
func (st *stream) conflict(r *Record) *Letter {
	l := &Letter{
		Node: st.name, Epoch: st.epoch, Sequence: r.Sequence, IsRecord: true, Reason: Conflict, Raw: r.Raw,
		Detail: "another record is stored under this sequence; was a spool copied or restored, or is the node's name used twice?",
	}
	if r.Task != nil {
		if l.Raw == nil {
			l.Raw = r.Task.Append(nil)
		}
		l.Detail = fmt.Sprintf("event %s of device %s: %s", r.Task.EventID, r.Task.Device, l.Detail)
	}
	return l
}

// textMax is the maximum length of the names in a record. They are indexed, and PostgreSQL limits index entries to 2,704 bytes.
const textMax = 512

// unfit returns why a database cannot store a task, "" if it can. PostgreSQL's text accepts neither NUL nor invalid UTF-8.
func unfit(t *task.Task) string {
	names := [...]string{t.EventID, t.Device, t.Source, t.Resource, ""}
	if t.Class != nil {
		names[4] = t.Class.Name
	}
	for _, name := range names {
		if len(name) > textMax || !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0 {
			return fmt.Sprintf("the name %.40q is longer than %d bytes or not valid UTF-8", name, textMax)
		}
	}
	if t.Chunk < 0 || t.Chunk > math.MaxInt32 || t.Of < 0 || t.Of > math.MaxInt32 {
		return fmt.Sprintf("chunk %d of %d is out of range", t.Chunk, t.Of)
	}
	return ""
}

// row separates the data from the rest of the task, so that the data are readable in the tables.
func (st *stream) row(r *Record, content int64) *row {
	frame := *r.Task
	frame.Data = nil
	out := &row{
		stream: st.id, sequence: int64(r.Sequence), node: st.node, task: r.Task, in: st,
		content: content, meta: frame.Append(nil), data: r.Task.Data,
	}
	if out.data == nil {
		out.data = []byte{} // not NULL
	}
	if r.Task.Class != nil {
		out.class = r.Task.Class.Name
	}
	return out
}

// settle records the fates of gone sequences, and the highest floor.
func (s *Store) settle(ctx context.Context, tx *sql.Tx, st *stream) error {
	for _, g := range st.gone {
		for _, span := range g.Spans {
			st.fates.Fill(span)
		}
	}
	if err := s.removeSpans(ctx, tx, st); err != nil {
		return fmt.Errorf("writing the fates of the records: %w", err)
	}
	for _, b := range st.batches {
		if int64(b.Floor) >= st.low {
			st.low, st.session = int64(b.Floor), b.Session
		}
	}
	return nil
}
