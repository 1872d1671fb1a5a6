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

// A job is the work for one record of a class with a model. It is written in the transaction that stores the record, under the record's id, so a
// record has at most one job. A worker holds a job until its lease ends, and can store the answer only while it holds the job. The answer is
// published until the node has confirmed it. All times in the table are of the database's clock: only that clock sets and checks leases. A lease
// further ahead than the longest lease (the clock was set back) has ended.
const (
	jobFresh     = 0 // not taken yet
	jobTaken     = 1 // taken by a worker; after due, another worker may take it
	jobAnswered  = 2 // has an answer, or a reason without an answer, not confirmed by the node
	jobConfirmed = 3
	jobGivenUp   = 4 // published maxSends times, or a multiple of that, without a confirmation; see returned
)

const (
	maxLease  = time.Hour     // maximum lease of a job
	maxAgain  = 3 * time.Hour // maximum pause between two attempts to publish or compute an answer
	maxSends  = 24            // number of publications, over more than a day, after which the node is considered gone
	maxRounds = 5             // number of returns of a node before an answer is dropped permanently
	sendsLog  = 10            // number of times that the pause between publications doubles
)

// Job is a job held by a worker.
type Job struct {
	Record      int64
	Node, Model string
	Tries       int           // including this one
	Age         time.Duration // since its record was stored, or since a later chunk of its event arrived after the job had failed
	Problem     string        // of the last attempt, "" if there was none
}

// Outcome is the outcome of a job: the payload of an answer, or the reason for its absence.
type Outcome struct {
	Record  int64
	Payload []byte
	Problem string // "" with an answer
	Stored  int    // if the problem is missing chunks: number of stored chunks of the event; else 0
}

// Answered is an outcome to publish.
type Answered struct {
	ID      string // of the result, the same for each publication
	Node    string
	EventID string
	Chunk   int
	At      time.Time // time of the answer
	Sends   int       // including this one
	Outcome
}

// Confirmed is a node's confirmation of results.
type Confirmed struct {
	Node    string
	Results []ConfirmedResult
}

// ConfirmedResult identifies one result. Refused is the reason why the node did not publish it, "" if it did.
type ConfirmedResult struct{ ID, Refused string }

// again sets the columns of a job that is computed again. Its result gets another id, so that a late confirmation of the previous result does not apply to it.
const again = `state = 0, tries = 0, sends = 0, worker = '', problem = '', refused = '', retries = retries + 1, due = NOW`

// addJobs writes a job for each new record of a class with a model. Only the first chunk of an event has a job.
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
		case r.task.Chunk > 0: // whatever the chunk's own class
			late[lateChunk{r.node, r.task.EventID}] = true
		case r.model != "":
			jobs = append(jobs, r)
		}
	}
	// Further chunks may follow. They have as much time as those of a new event.
	chunks := slices.Collect(maps.Keys(late))
	err = s.eachOf(ctx, tx, s.sql(`UPDATE jobs SET `+again+`, created = NOW FROM WANTED
		WHERE jobs.node = w.node AND jobs.event_id = w.event AND jobs.state >= 2 AND jobs.ok = 0`), []string{"node bigint", "event text"}, len(chunks),
		func(i int) []any { return []any{chunks[i].node, chunks[i].event} }, nil)
	if err != nil {
		return 0, fmt.Errorf("restarting the jobs of %d events with new chunks: %w", len(chunks), err)
	}
	if len(jobs) == 0 {
		return 0, nil
	}
	if err := s.dialect.insertJobs(ctx, tx, jobs); err != nil {
		return 0, fmt.Errorf("storing %d jobs: %w", len(jobs), err)
	}
	return len(jobs), nil
}

// lateChunk identifies the event of a chunk, whose job may have failed because the chunk was missing.
type lateChunk struct {
	node  int64
	event string
}

// away is the time without a message after which a node is assumed to have been unreachable.
const away = time.Hour

// returned makes the pending answers of a node that was away due immediately. It includes dropped answers, up to a number of returns: a connected
// node that never confirms would otherwise receive its answers forever.
func (s *Store) returned(ctx context.Context, tx *sql.Tx, streams []*stream) error {
	var last int64
	for _, st := range streams { // streams of one node are adjacent
		if !st.away || st.node == last {
			continue
		}
		last = st.node
		for _, statement := range []string{
			`UPDATE jobs SET state = 2, due = NOW WHERE node = $1 AND state = 4 AND sends < $2`,
			`UPDATE jobs SET due = NOW WHERE node = $1 AND state = 2 AND sends < $2`,
		} {
			if _, err := tx.ExecContext(ctx, s.sql(statement), st.node, maxSends*maxRounds); err != nil {
				return fmt.Errorf("publishing the answers of node %s after its return: %w", st.name, err)
			}
		}
	}
	return nil
}

// take returns the statement that leases jobs. A job that was taken before is leased alone, so that a job that crashes its worker does not affect others.
func (s *Store) take(where, order string) string {
	return s.sql(`WITH taken AS (SELECT record AS taken_record FROM jobs WHERE ` + where + ` ORDER BY ` + order + ` LIMIT $1 SKIP)
		UPDATE jobs SET state = 1, tries = tries + 1, worker = $2, due = NOW + $3 FROM taken WHERE record = taken_record
		RETURNING record, tries, NOW - created, problem, (SELECT name FROM nodes WHERE id = jobs.node)`)
}

// sql completes a statement for the database: NOW is its clock, and SKIP skips rows locked by another transaction.
func (s *Store) sql(statement string) string {
	return strings.NewReplacer("NOW", s.dialect.clock(), " SKIP", s.dialect.skipLocked()).Replace(statement)
}

// TakeJobs leases up to limit jobs of a model to a worker. A job that was taken before and is due again is leased alone. Calls alternate between due
// and fresh jobs as their first choice, so that neither kind starves.
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

// any reports whether there are jobs, false after an error. It does not need the lock that a writing transaction takes on SQLite.
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

// RenewJob extends a lease, counted from now, and reports whether the worker still holds the job.
func (s *Store) RenewJob(ctx context.Context, worker string, record int64, lease time.Duration) (held bool, err error) {
	return s.changeJob(ctx, `UPDATE jobs SET due = NOW + $3 WHERE record = $1 AND worker = $2 AND state = 1`, record, worker, int64(lease))
}

// PostponeJob ends a lease without an outcome: the job may be taken again after the pause. uncounted reverses the count of the attempt, for failures
// that the job did not cause.
func (s *Store) PostponeJob(ctx context.Context, worker string, record int64, pause time.Duration, problem string, uncounted bool) error {
	back := 0
	if uncounted {
		back = 1
	}
	_, err := s.changeJob(ctx, `UPDATE jobs SET due = NOW + $3, problem = $4, tries = tries - $5, worker = '' WHERE record = $1 AND worker = $2 AND state = 1`,
		record, worker, int64(min(pause, maxAgain)), clean(problem), back)
	return err
}

// FinishJobs stores the outcomes of jobs in one transaction, and returns the number of jobs that the worker still held. For the other jobs, the
// outcome of another worker counts.
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

// lockIncomplete locks the nodes of events with missing chunks, in the order of Commit. As a result, either finishJob sees a new chunk, or the
// chunk's transaction sees the end of the job.
func (s *Store) lockIncomplete(ctx context.Context, tx *sql.Tx, outcomes []*Outcome) error {
	lacking := slices.DeleteFunc(slices.Clone(outcomes), func(o *Outcome) bool { return o.Stored == 0 })
	return s.eachOf(ctx, tx, `SELECT name FROM nodes WHERE id IN (SELECT j.node FROM WANTED JOIN jobs j ON j.record = w.record) ORDER BY name`+s.dialect.forUpdate(),
		[]string{"record bigint"}, len(lacking), func(i int) []any { return []any{lacking[i].Record} }, nil)
}

// ofEvent joins a record r with all records of its event.
const ofEvent = ` JOIN records o ON o.origin = r.origin AND o.event_id = r.event_id AND o.node = r.node AND o.device = r.device AND o.source = r.source `

func (s *Store) finishJob(ctx context.Context, tx *sql.Tx, worker string, o *Outcome) (changed int64, err error) {
	if o.Stored > 0 {
		again, err := tx.ExecContext(ctx, s.sql(`UPDATE jobs SET due = NOW, worker = '' WHERE record = $1 AND worker = $2 AND state = 1 AND
			(SELECT COUNT(*) FROM records r`+ofEvent+`WHERE r.id = $1) > $3`), o.Record, worker, o.Stored)
		if err != nil {
			return 0, err
		}
		if changed, err := again.RowsAffected(); err != nil || changed > 0 {
			return changed, err // a chunk has arrived in between
		}
	}
	payload, ok := o.Payload, 1
	if o.Problem != "" {
		payload, ok = nil, 0
	}
	if payload == nil {
		payload = []byte{} // not NULL
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

// TakeAnswers takes up to limit outcomes that are due: new ones, and those that the node has not confirmed after a pause that begins at again and
// doubles. Each is returned to only one caller.
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
		return nil, fmt.Errorf("reading answers to publish: %w", err)
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

// resultID returns the id of a result, made of its record's id and content and the number of restarts of the job. Results of another database have
// other ids, unless they are of the same task.
func resultID(record, content int64, retries int) string {
	id := fmt.Sprintf("%d-%016x", record, uint64(content))
	if retries > 0 {
		id += fmt.Sprintf("-%d", retries)
	}
	return id
}

// confirmation is a node's confirmation of one result, with the parts of its id.
type confirmation struct {
	record, content, retries int64
	node, refused            string
}

// confirmations parses the ids of results and sorts them by record: transactions that lock rows in one order cannot deadlock. Invalid ids are left out.
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
			if err == nil && err2 == nil && err3 == nil { // otherwise it is another program's
				read = append(read, confirmation{record, int64(content), retries, c.Node, clean(r.Refused)})
			}
		}
	}
	slices.SortStableFunc(read, func(a, b confirmation) int { return cmp.Compare(a.record, b.record) })
	return read
}

// confirm records that nodes have handled results. Ids that are not of a result of that node are ignored.
func (s *Store) confirm(ctx context.Context, tx *sql.Tx, all []*Confirmed) (confirmed int, err error) {
	for _, c := range confirmations(all) {
		result, err := tx.ExecContext(ctx, s.sql(`UPDATE jobs SET state = 3, confirmed = NOW, refused = $4
			WHERE record = $1 AND content = $2 AND node = (SELECT id FROM nodes WHERE name = $3) AND retries = $5 AND state IN (2, 4)`),
			c.record, c.content, c.node, c.refused, c.retries)
		if err != nil {
			return 0, fmt.Errorf("recording that node %s has confirmed the result of record %d: %w", c.node, c.record, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		confirmed += int(n)
	}
	return confirmed, nil
}

// Ended returns why that many missing chunks of a record's event will not arrive, "" if they may. A node writes the chunks of an event consecutively,
// so they will not arrive if the fates of all sequences around the stored chunks are known and at least that many are gone. A chunk that was parked,
// or whose local work failed, is written later, and the gone records may belong to other events: the caller waits for such chunks first. If a chunk
// arrives after all, the job is restarted.
func (s *Store) Ended(ctx context.Context, one *Found, missing int) (why string, err error) {
	var stream, first, last sql.NullInt64
	var streams int
	err = s.read.QueryRowContext(ctx, `SELECT MIN(o.stream), COUNT(DISTINCT o.stream), MIN(o.sequence), MAX(o.sequence) FROM records r`+ofEvent+
		`WHERE r.id = $1 AND o.parts = r.parts`, one.ID).Scan(&stream, &streams, &first, &last)
	if err != nil {
		return "", fmt.Errorf("locating the chunks of event %.64s: %w", one.Task.EventID, err)
	}
	of := int64(one.Task.Of)
	if streams != 1 || last.Int64-first.Int64 >= of {
		return "", nil // the event was delivered to the node twice and cut differently
	}
	low, high := max(last.Int64-of+1, 1), first.Int64+of-1
	spans, err := readSpans(ctx, s.read, fatesOf, stream.Int64, high, low)
	if err != nil {
		return "", fmt.Errorf("reading the fates of the chunks of event %.64s: %w", one.Task.EventID, err)
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
		return "", nil // other chunks are gone as well, and unknown sequences may be chunks in transit
	}
	return strings.Join(reasons, ", "), nil
}

// JobRecord returns the record of a job, nil if its row was deleted, even if another record has the same id now.
func (s *Store) JobRecord(ctx context.Context, record int64) (*Found, error) {
	all, err := s.found(ctx, `r.id = $1 AND r.content = (SELECT content FROM jobs WHERE record = $1)`, record)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}
