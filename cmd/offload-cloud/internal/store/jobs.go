package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A job is the work that one record's class asks for. It is written in the transaction that stores the record, under the record's id, so
// a record has one job at most. A worker takes it for as long as its lease lasts, and stores the answer only while it still holds it. The
// answer is published until the node has confirmed it. All times in the table are those of the database's clock: a lease is written
// and judged by that clock alone, and one that lies further ahead than any lease can (the clock was set back) has ended.
const (
	jobFresh     = 0 // no worker has taken it yet
	jobTaken     = 1 // a worker has it, or had it: due says when another may take it
	jobAnswered  = 2 // there is an answer, or a reason why none comes, which the node has not confirmed
	jobConfirmed = 3
	jobGivenUp   = 4 // published maxSends times, or a multiple of that, and the node has not confirmed it; see returned
)

const (
	maxLease  = time.Hour     // the longest lease of a job
	maxAgain  = 3 * time.Hour // the longest pause between two attempts to publish an answer, or to compute one
	maxSends  = 24            // after so many publishes, over more than a day, the node is taken to be gone
	maxRounds = 5             // as often it may come back before an answer is given up permanently
	sendsLog  = 10            // the pause between publishes doubles so often
)

// Job is a job that a worker holds.
type Job struct {
	Record      int64
	Node, Model string
	Tries       int           // this one included
	Age         time.Duration // since its record was stored, or a chunk of its event that came when the job had failed
	Problem     string        // why it was given back the last time, "" where it was not
}

// Outcome is what came of a job: the payload of an answer, or the problem why none comes.
type Outcome struct {
	Record  int64
	Payload []byte
	Problem string // "" with an answer
	Stored  int    // chunks that were there of an event that lacks others, which is the problem; else 0
}

// Answered is an outcome to be published.
type Answered struct {
	ID      string // of the result, the same at each publish
	Node    string
	EventID string
	Chunk   int
	At      time.Time // when the work was done
	Sends   int       // this one included
	Outcome
}

// Confirmed is a node's word that it has dealt with a result.
type Confirmed struct {
	Node    string
	Results []ConfirmedResult
}

// ConfirmedResult names one result; Refused says why the node did not publish it, "" where it did.
type ConfirmedResult struct{ ID, Refused string }

// again sets the columns of a job that is to be computed anew. Its result gets another name, so that a late word about the one before does
// not count for it.
const again = `state = 0, tries = 0, sends = 0, worker = '', problem = '', refused = '', retries = retries + 1, due = NOW`

// addJobs writes a job for each new record of a class with a model. A chunk that is not the first has none: the event's first one has it.
func (s *Store) addJobs(ctx context.Context, tx *sql.Tx, rows []*row) (added int, err error) {
	models := s.models.Load()
	if models == nil || len(*models) == 0 {
		return 0, nil
	}
	var jobs []*row
	late := map[lateChunk]bool{}
	for _, r := range rows {
		r.model = (*models)[r.class]
		switch {
		case !r.fresh:
		case r.task.Chunk > 0: // whatever its own class is
			late[lateChunk{r.node, r.task.EventID}] = true
		case r.model != "":
			jobs = append(jobs, r)
		}
	}
	// More of the event may follow, for which there is as much time as with one that has just come.
	chunks := slices.Collect(maps.Keys(late))
	err = s.eachOf(ctx, tx, s.sql(`UPDATE jobs SET `+again+`, created = NOW FROM WANTED
		WHERE jobs.node = w.node AND jobs.event_id = w.event AND jobs.state >= 2 AND jobs.ok = 0`), []string{"node bigint", "event text"}, len(chunks),
		func(i int) []any { return []any{chunks[i].node, chunks[i].event} }, nil)
	if err != nil {
		return 0, fmt.Errorf("beginning the jobs of %d events anew, chunks of which have come: %w", len(chunks), err)
	}
	if len(jobs) == 0 {
		return 0, nil
	}
	if err := s.dialect.insertJobs(ctx, tx, jobs); err != nil {
		return 0, fmt.Errorf("storing %d jobs: %w", len(jobs), err)
	}
	return len(jobs), nil
}

// lateChunk names the event that a chunk belongs to, whose job may have failed for want of it.
type lateChunk struct {
	node  int64
	event string
}

// away is after how long without a message a node is taken to have been unreachable.
const away = time.Hour

// returned has the answers published at once that wait for a node which was away, those that were given up among them unless that has
// happened too often: a node that is there and never confirms would be sent its answers for ever.
func (s *Store) returned(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	var last int64
	for _, st := range streams { // those of a node follow each other
		if !st.away || st.node == last {
			continue
		}
		last = st.node
		for _, statement := range []string{
			`UPDATE jobs SET state = 2, due = NOW WHERE node = $1 AND state = 4 AND sends < $2`,
			`UPDATE jobs SET due = NOW WHERE node = $1 AND state = 2 AND sends < $2`,
		} {
			if _, err := tx.ExecContext(ctx, s.sql(statement), st.node, maxSends*maxRounds); err != nil {
				return fmt.Errorf("publishing the answers of node %s, which has come back: %w", st.name, err)
			}
		}
	}
	return nil
}

// take is the statement that leases jobs. What failed before is taken alone, so that a job that ends its worker takes no others with it.
func (s *Store) take(where, order string) string {
	return s.sql(`WITH taken AS (SELECT record AS taken_record FROM jobs WHERE ` + where + ` ORDER BY ` + order + ` LIMIT $1 SKIP)
		UPDATE jobs SET state = 1, tries = tries + 1, worker = $2, due = NOW + $3 FROM taken WHERE record = taken_record
		RETURNING record, tries, NOW - created, problem, (SELECT name FROM nodes WHERE id = jobs.node)`)
}

// sql writes a statement for the database: NOW is its clock, and SKIP leaves out the rows that another transaction has locked.
func (s *Store) sql(statement string) string {
	return strings.NewReplacer("NOW", s.dialect.clock(), " SKIP", s.dialect.skipLocked()).Replace(statement)
}

// TakeJobs leases up to limit jobs of a model to a worker. A job that was taken before and is due again is taken alone. Every other call takes such
// a job first, the others fresh ones, so that neither hold up the other.
func (s *Store) TakeJobs(ctx context.Context, worker, model string, lease time.Duration, limit int) (jobs []*Job, err error) {
	again := s.take(`state = 1 AND model = $4 AND (due <= NOW OR due > NOW + $5)`, "due, record")
	fresh := s.take(`state = 0 AND model = $4`, "record")
	if there, err := s.any(ctx, `model = $1 AND (state = 0 OR state = 1 AND (due <= NOW OR due > NOW + $2))`, model, int64(maxAgain)); !there {
		return nil, err
	}
	freshFirst := s.takes.Add(1)%2 == 0
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		jobs = nil
		takeAgain := func() ([]*Job, error) {
			return takeWith(ctx, tx, again, model, 1, worker, int64(lease), model, int64(maxAgain))
		}
		takeFresh := func() ([]*Job, error) { return takeWith(ctx, tx, fresh, model, limit, worker, int64(lease), model) }
		first, second := takeAgain, takeFresh
		if freshFirst {
			first, second = second, first
		}
		if jobs, err = first(); err != nil || len(jobs) > 0 {
			return err
		}
		jobs, err = second()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("taking jobs of model %s: %w", model, err)
	}
	return jobs, nil
}

// any looks whether there are jobs, false after an error, without the lock that a writing transaction takes on SQLite.
func (s *Store) any(ctx context.Context, where string, args ...any) (there bool, err error) {
	err = s.read.QueryRowContext(ctx, s.sql(`SELECT EXISTS (SELECT 1 FROM jobs WHERE `+where+`)`), args...).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("looking for jobs: %w", err)
	}
	return there, nil
}

func takeWith(ctx context.Context, tx *sql.Tx, query, model string, args ...any) ([]*Job, error) {
	return collect(ctx, tx, func(rows *sql.Rows) (*Job, error) {
		j := &Job{Model: model}
		var node sql.NullString
		err := rows.Scan(&j.Record, &j.Tries, &j.Age, &j.Problem, &node)
		j.Node = node.String
		return j, err
	}, query, args...)
}

// RenewJob prolongs a lease from now on, and reports whether the worker still holds the job.
func (s *Store) RenewJob(ctx context.Context, worker string, record int64, lease time.Duration) (held bool, err error) {
	return s.changeJob(ctx, `UPDATE jobs SET due = NOW + $3 WHERE record = $1 AND worker = $2 AND state = 1`, record, worker, int64(lease))
}

// PostponeJob ends a lease without an outcome: the job may be taken again after the pause. uncounted takes the try back, for what was no
// fault of the job.
func (s *Store) PostponeJob(ctx context.Context, worker string, record int64, pause time.Duration, problem string, uncounted bool) error {
	back := 0
	if uncounted {
		back = 1
	}
	_, err := s.changeJob(ctx, `UPDATE jobs SET due = NOW + $3, problem = $4, tries = tries - $5, worker = '' WHERE record = $1 AND worker = $2 AND state = 1`,
		record, worker, int64(min(pause, maxAgain)), clean(problem), back)
	return err
}

// FinishJobs stores what came of jobs in one transaction, and reports of how many the worker still held the lease: of the others, another
// worker's outcome counts.
func (s *Store) FinishJobs(ctx context.Context, worker string, outcomes []*Outcome) (held int, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		held = 0
		if err := s.lockIncomplete(ctx, tx, outcomes); err != nil {
			return fmt.Errorf("locking nodes: %w", err)
		}
		for _, o := range outcomes {
			n, err := s.finishJob(ctx, tx, worker, o)
			if err != nil {
				return fmt.Errorf("record %d: %w", o.Record, err)
			}
			held += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("storing the outcomes of %d jobs: %w", len(outcomes), err)
	}
	return held, nil
}

// lockIncomplete locks the nodes whose events lack chunks, in the order in which Commit does. So each chunk is either seen by finishJob or
// sees the job's end.
func (s *Store) lockIncomplete(ctx context.Context, tx *sql.Tx, outcomes []*Outcome) error {
	lacking := slices.DeleteFunc(slices.Clone(outcomes), func(o *Outcome) bool { return o.Stored == 0 })
	return s.eachOf(ctx, tx, `SELECT name FROM nodes WHERE id IN (SELECT j.node FROM WANTED JOIN jobs j ON j.record = w.record) ORDER BY name`+s.dialect.forUpdate(),
		[]string{"record bigint"}, len(lacking), func(i int) []any { return []any{lacking[i].Record} }, nil)
}

// ofEvent joins to a record r all that are of its event.
const ofEvent = ` JOIN records o ON o.origin = r.origin AND o.event_id = r.event_id AND o.node = r.node AND o.device = r.device AND o.source = r.source `

func (s *Store) finishJob(ctx context.Context, tx *sql.Tx, worker string, o *Outcome) (changed int64, err error) {
	if o.Stored > 0 {
		again, err := tx.ExecContext(ctx, s.sql(`UPDATE jobs SET due = NOW, worker = '' WHERE record = $1 AND worker = $2 AND state = 1 AND
			(SELECT COUNT(*) FROM records r`+ofEvent+`WHERE r.id = $1) > $3`), o.Record, worker, o.Stored)
		if err != nil {
			return 0, err
		}
		if changed, err := again.RowsAffected(); err != nil || changed > 0 {
			return changed, err // a chunk has come meanwhile
		}
	}
	payload, ok := o.Payload, 1
	if o.Problem != "" {
		payload, ok = nil, 0
	}
	if payload == nil {
		payload = []byte{} // NULL would be something else
	}
	result, err := tx.ExecContext(ctx, s.sql(`UPDATE jobs SET state = 2, due = NOW, answered = NOW, ok = $3, problem = $4, payload = $5, sends = 0
		WHERE record = $1 AND worker = $2 AND state = 1`),
		o.Record, worker, ok, clean(o.Problem), payload)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s *Store) changeJob(ctx context.Context, query string, args ...any) (changed bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, s.sql(query), args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("changing the job of record %v: %w", args[0], err)
	}
	return changed, nil
}

// TakeAnswers takes up to limit outcomes that are due to be published: those that never were, and those that the node has not confirmed
// for a pause that begins at again and doubles. Each is handed out to one caller.
func (s *Store) TakeAnswers(ctx context.Context, again time.Duration, limit int) (answers []*Answered, err error) {
	again = min(again, maxAgain>>sendsLog)
	if there, err := s.any(ctx, `state = 2 AND (due <= NOW OR due > NOW + $1)`, int64(maxAgain)); !there {
		return nil, err
	}
	query := s.sql(`WITH taken AS (SELECT record AS taken_record FROM jobs WHERE state = 2 AND (due <= NOW OR due > NOW + $1) ORDER BY due, record LIMIT $2 SKIP)
		UPDATE jobs SET state = CASE WHEN sends % $3 = $3 - 1 THEN 4 ELSE 2 END, sends = sends + 1,
			due = NOW + CAST($4 AS BIGINT) * (1 << CASE WHEN sends % $3 > $5 THEN $5 ELSE sends % $3 END) FROM taken WHERE record = taken_record
		RETURNING record, content, retries, (SELECT name FROM nodes WHERE id = jobs.node), event_id, chunk, answered, sends, ok, problem, payload`)
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		answers, err = takeAnswers(ctx, tx, query, int64(maxAgain), limit, maxSends, int64(again), sendsLog)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for answers to publish: %w", err)
	}
	return answers, nil
}

func takeAnswers(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]*Answered, error) {
	return collect(ctx, tx, func(rows *sql.Rows) (*Answered, error) {
		a := &Answered{}
		var content, at int64
		var ok, retries int
		if err := rows.Scan(&a.Record, &content, &retries, &a.Node, &a.EventID, &a.Chunk, &at, &a.Sends, &ok, &a.Problem, &a.Payload); err != nil {
			return nil, err
		}
		if ok == 1 {
			a.Problem = ""
		}
		a.ID, a.At = resultID(a.Record, content, retries), time.Unix(0, at).UTC()
		return a, nil
	}, query, args...)
}

// resultID names a result by its record's id and content, and by how often the job was begun anew: another database's result has another
// name, unless it is the same task's.
func resultID(record, content int64, retries int) string {
	id := fmt.Sprintf("%d-%016x", record, uint64(content))
	if retries > 0 {
		id += fmt.Sprintf("-%d", retries)
	}
	return id
}

// confirmation is a node's word about one result, with its name taken apart.
type confirmation struct {
	record, content, retries int64
	node, refused            string
}

// confirmations reads the names of results, in the order of the records: transactions that lock rows in one order cannot
// wait for each other in a circle. Names that no result has are left out.
func confirmations(all []*Confirmed) (read []confirmation) {
	for _, c := range all {
		for _, r := range c.Results {
			id, rest, _ := strings.Cut(r.ID, "-")
			digest, count, again := strings.Cut(rest, "-")
			if !again {
				count = "0"
			}
			record, err := strconv.ParseInt(id, 10, 64)
			content, err2 := strconv.ParseUint(digest, 16, 64)
			retries, err3 := strconv.ParseInt(count, 10, 32)
			if err == nil && err2 == nil && err3 == nil { // else it is another program's
				read = append(read, confirmation{record, int64(content), retries, c.Node, clean(r.Refused)})
			}
		}
	}
	slices.SortStableFunc(read, func(a, b confirmation) int { return cmp.Compare(a.record, b.record) })
	return read
}

// confirm notes that nodes have dealt with results. Names that are not of a result of that node are ignored.
func (s *Store) confirm(ctx context.Context, tx *sql.Tx, all []*Confirmed) (confirmed int, err error) {
	for _, c := range confirmations(all) {
		result, err := tx.ExecContext(ctx, s.sql(`UPDATE jobs SET state = 3, confirmed = NOW, refused = $4
			WHERE record = $1 AND content = $2 AND node = (SELECT id FROM nodes WHERE name = $3) AND retries = $5 AND state IN (2, 4)`),
			c.record, c.content, c.node, c.refused, c.retries)
		if err != nil {
			return 0, fmt.Errorf("noting that node %s has confirmed the result of record %d: %w", c.node, c.record, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		confirmed += int(n)
	}
	return confirmed, nil
}

// Ended says why so many missing chunks of the event of a record will not come, "" where they may. A node writes the chunks of an event one after
// the other, so they will not where what became of all records around the stored ones is known, and as many are gone. A chunk that was parked, or that
// local work failed on, is written later, and the records that are gone may be of others: the caller waits for that first. Should one come all the
// same, the job begins anew.
func (s *Store) Ended(ctx context.Context, one *Found, missing int) (why string, err error) {
	var stream, first, last sql.NullInt64
	var streams int
	err = s.read.QueryRowContext(ctx, `SELECT MIN(o.stream), COUNT(DISTINCT o.stream), MIN(o.sequence), MAX(o.sequence) FROM records r`+ofEvent+
		`WHERE r.id = $1 AND o.parts = r.parts`, one.ID).Scan(&stream, &streams, &first, &last)
	if err != nil {
		return "", fmt.Errorf("looking where the chunks of event %.64s are: %w", one.Task.EventID, err)
	}
	of := int64(one.Task.Of)
	if streams != 1 || last.Int64-first.Int64 >= of {
		return "", nil // it was delivered to the node twice, and cut anew
	}
	low, high := max(last.Int64-of+1, 1), first.Int64+of-1
	spans, err := readSpans(ctx, s.read, fatesOf, stream.Int64, high, low)
	if err != nil {
		return "", fmt.Errorf("reading what became of the chunks of event %.64s: %w", one.Task.EventID, err)
	}
	known, gone, reasons := 0, 0, []string{}
	for _, span := range spans {
		n := int(min(int64(span.Last), high) - max(int64(span.First), low) + 1)
		known += n
		if span.Fate == Stored || span.Fate == Dead || span.Fate == Skipped {
			continue
		}
		gone += n
		if !slices.Contains(reasons, span.Fate) {
			reasons = append(reasons, span.Fate)
		}
	}
	if gone < missing || known < int(high-low)+1 {
		return "", nil // others are gone as well, and what is not known may be chunks on their way
	}
	return strings.Join(reasons, ", "), nil
}

// JobRecord finds the record of a job, nil where its row was deleted, also where another record has its id since.
func (s *Store) JobRecord(ctx context.Context, record int64) (*Found, error) {
	all, err := s.found(ctx, `r.id = $1 AND r.content = (SELECT content FROM jobs WHERE record = $1)`, record)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}
