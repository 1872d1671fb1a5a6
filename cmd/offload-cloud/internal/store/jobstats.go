package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// JobCounts counts the jobs of one node or of all nodes.
type JobCounts struct {
	Waiting   int64 `json:"waiting"`   // for a worker, or for its answer
	Answered  int64 `json:"answered"`  // with an answer that the node has not confirmed
	Confirmed int64 `json:"confirmed"` // with an answer that the node has published on its bus
	Failed    int64 `json:"failed"`    // permanently, with a reason instead of an answer
	Refused   int64 `json:"refused"`   // with an answer that the node did not publish
	GivenUp   int64 `json:"givenUp"`   // published without a confirmation until the node was considered gone
}

// All returns the number of jobs.
func (c *JobCounts) All() int64 {
	return c.Waiting + c.Answered + c.Confirmed + c.Failed + c.Refused + c.GivenUp
}

// countJobs counts the jobs of all nodes, by node number. It reads the whole table.
func countJobs(ctx context.Context, tx *sql.Tx, nodes map[int64]*NodeStats) error {
	return scan(ctx, tx, func(rows *sql.Rows) error {
		var node, n int64
		var state, ok, refused int
		if err := rows.Scan(&node, &state, &ok, &refused, &n); err != nil {
			return err
		}
		if nodes[node] == nil {
			return nil
		}
		if nodes[node].Jobs == nil {
			nodes[node].Jobs = &JobCounts{}
		}
		*nodes[node].Jobs.of(state, ok == 1, refused == 1) += n
		return nil
	}, `SELECT node, state, ok, CASE WHEN refused = '' THEN 0 ELSE 1 END, COUNT(*) FROM jobs GROUP BY 1, 2, 3, 4`)
}

func (c *JobCounts) of(state int, ok, refused bool) *int64 {
	switch {
	case state == jobFresh || state == jobTaken:
		return &c.Waiting
	case !ok:
		return &c.Failed
	case refused:
		return &c.Refused
	case state == jobGivenUp:
		return &c.GivenUp
	case state == jobConfirmed:
		return &c.Confirmed
	}
	return &c.Answered
}

// FailedJob is a job that failed permanently, or whose answer the node refused or never confirmed.
type FailedJob struct {
	Record   int64     `json:"record"`
	Node     string    `json:"node"`
	Event    string    `json:"event"`
	Chunk    int       `json:"chunk"`
	Class    string    `json:"class"`
	Model    string    `json:"model"`
	Tries    int       `json:"tries"`
	Problem  string    `json:"problem"`
	Answered time.Time `json:"answered"`
}

// FailedJobs returns up to limit failed jobs of records above after, in the order of the records' arrival.
func (s *Store) FailedJobs(ctx context.Context, after int64, limit int) ([]*FailedJob, error) {
	all, err := collect(ctx, s.read, func(rows *sql.Rows) (*FailedJob, error) {
		j := &FailedJob{}
		var at int64
		err := rows.Scan(&j.Record, &j.Node, &j.Event, &j.Chunk, &j.Class, &j.Model, &j.Tries, &j.Problem, &at)
		j.Answered = time.Unix(0, at).UTC()
		return j, err
	}, `SELECT j.record, n.name, j.event_id, j.chunk, j.class, j.model, j.tries, CASE WHEN j.refused <> '' THEN j.refused WHEN j.ok = 1 THEN 'its answer was published ' || j.sends || ' times, and the node has not confirmed it' ELSE j.problem END, j.answered
		FROM jobs j JOIN nodes n ON n.id = j.node WHERE j.record > $1 AND j.state >= 2 AND (j.ok = 0 OR j.refused <> '' OR j.state = 4) ORDER BY j.record LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("listing failed jobs: %w", err)
	}
	return all, nil
}

// RetryJob restarts a failed job, and reports whether the record has one.
func (s *Store) RetryJob(ctx context.Context, record int64) (bool, error) {
	return s.changeJob(ctx, `UPDATE jobs SET `+again+`
		WHERE record = $1 AND state >= 2 AND (ok = 0 OR refused <> '' OR state = 4)`, record)
}
