// Package store stores the tasks that nodes sent, the fate of every sequence number, and the messages that could not be read.
//
// Commit stores a group in one transaction. When it returns without an error, everything in the group survives a power cut, and only then may a
// receipt be sent. A record is identified by (node, epoch, sequence) and its content, a task by its event's id, its chunk and its content: a task
// that arrives again under another sequence (the bus delivered the event twice, or the spool was recreated) is stored once and receipted under both.
// Tasks of one node never replace those of another. Numbers and ids alone prove nothing, because copies of disks reuse them: a record whose content
// differs from the record stored under its (node, epoch, sequence) is a conflict, which is quarantined and never receipted.
//
// SQLite and PostgreSQL have the same tables. Their differences are in dialect.go and in the files named after them. All methods are safe for
// concurrent use, and several processes may share one database.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/functions/task"
)

// Fates of a sequence, in addition to a node's reasons for gone records.
const (
	Stored  = "stored"  // the task is in the records table, under this or an earlier sequence
	Dead    = "dead"    // the record arrived but could not be decoded; it is among the dead letters
	Skipped = "skipped" // the node has declared that no record ever had the sequence
)

// Record is one record of an opened batch.
type Record struct {
	Sequence uint64
	Task     *task.Task // nil if the record could not be decoded
	Raw      []byte     // set if the record could not be decoded
	Problem  string     // why Task is nil
}

// Batch is the content of one message. Floor is the smallest sequence that the node still held when it made the batch. Session identifies the opening
// of the batch's spool, "" if the node does not send it.
type Batch struct {
	Node, Epoch, Session string
	Floor                uint64
	Records              []Record
}

// Gone is a node's statement about records that will never arrive; the fate of each span is the reason.
type Gone struct {
	Node, Epoch string
	Spans       []ranges.Span
}

// Group is the content of one transaction.
type Group struct {
	Batches   []*Batch
	Gone      []*Gone
	Letters   []*Letter    // messages that could not be opened
	Settled   []int64      // dead letters handled by a retry
	Confirmed []*Confirmed // results handled by nodes
	Hasty     bool         // limit the wait for rows locked by other sessions
}

// Records returns the number of records of all batches.
func (g *Group) Records() (n int) {
	for _, b := range g.Batches {
		n += len(b.Records)
	}
	return n
}

// Receipt answers the batches of one session of a stream. Safe contains the sequences that this group made safe, Gaps the missing ones: below the
// floor, neither stored nor declared gone. Conflicts contains sequences whose stored record differs, whether this session or another one sent it;
// they are not safe.
type Receipt struct {
	Node, Epoch, Session  string
	Safe, Gaps, Conflicts []ranges.Span
}

// Fresh is a record that was stored for the first time.
type Fresh struct {
	Node, Epoch string
	Sequence    uint64
	Task        *task.Task
}

// Result is the result of a committed group.
type Result struct {
	Receipts         []Receipt
	Fresh            []Fresh
	DuplicateRecords int // sequences already stored
	DuplicateTasks   int // new sequences of tasks stored before under another sequence
	DeadRecords      int // records quarantined because they could not be decoded
	Conflicts        int // records that differ from the record stored under their sequence
	Letters          int // messages quarantined for the first time
	LettersRefused   int // messages not quarantined because the limit is reached
	Confirmed        int // results confirmed by their nodes for the first time
	Jobs             int // new records with a job for a worker
}

// Options configure a store.
type Options struct {
	MustExist  bool // create and change no tables, for commands that only read
	Works      bool // with MustExist: the session also writes, so it needs timeouts in case it gets stuck
	DeadCount  int  // maximum number of dead letters; 0 means 10,000
	DeadMiB    int  // maximum size of dead letters; 0 means 256 MiB
	ReadersMax int  // connections for reading, beside the writing one; 0 means 4
}

func (o Options) withDefaults() Options {
	if o.DeadCount == 0 {
		o.DeadCount = 10_000
	}
	if o.DeadMiB == 0 {
		o.DeadMiB = 256
	}
	if o.ReadersMax == 0 {
		o.ReadersMax = 4
	}
	return o
}

// Store is a database of received tasks.
type Store struct {
	write, read *sql.DB
	dialect     dialect
	opts        Options
	models      atomic.Pointer[map[string]string]
	takes       atomic.Uint64               // calls of TakeJobs
	careful     atomic.Int32                // number of commits that expect existing rows
	lanes       int                         // see Lanes
	protect     func(context.Context) error // restricts access to the file and deletions, once it is known to be the store's; nil for a server
	inPlace     func() error                // fails if the file is no longer at its path; nil for a server
	close       func() error
}

// Open opens "sqlite:PATH" or a "postgres://…" URL, and creates missing tables.
func Open(ctx context.Context, dsn string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	var (
		s   *Store
		err error
	)
	switch scheme, rest, _ := strings.Cut(dsn, ":"); scheme {
	case "sqlite":
		s, err = openSQLite(rest, opts)
	case "postgres", "postgresql":
		s, err = openPostgres(ctx, dsn, opts)
	default:
		// The text is not shown, since it may contain a password.
		return nil, errors.New("unknown kind of store; use sqlite:PATH or postgres://user@host/database")
	}
	if err != nil {
		return nil, err
	}
	prepare := s.migrate
	if opts.MustExist {
		prepare = s.check
	}
	err = prepare(ctx)
	if err == nil && !opts.MustExist && s.protect != nil {
		err = s.protect(ctx)
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("preparing the tables of the %s store: %w", s.dialect.name(), explained(err))
	}
	return s, nil
}

// SetModels sets the model of each class, from the next Commit on. Classes without a model have no extra cost.
func (s *Store) SetModels(byClass map[string]string) { s.models.Store(&byClass) }

// Lanes returns the number of concurrent transactions: 1 for SQLite, up to 4 for PostgreSQL, so that half of the connections are left to readers.
func (s *Store) Lanes() int { return s.lanes }

// Close closes the connections; an open transaction is rolled back.
func (s *Store) Close() error { return s.close() }

// Ping returns an error if the database does not answer, or its file is no longer at its path.
func (s *Store) Ping(ctx context.Context) error {
	return errors.Join(s.placed(), s.read.PingContext(ctx))
}

// Permanent reports whether a failed Commit would fail again because of the group's content, not because of the database's state. Such a group must
// be split, not retried.
func (s *Store) Permanent(err error) bool { return err != nil && s.dialect.permanent(err) }

// Blocked reports whether a Commit failed because another session holds a lock, or because of its time limit, while the database works. Parts of the
// group may pass then.
func (s *Store) Blocked(err error) (locked, slow bool) {
	if locked, slow = s.dialect.blocked(err); locked || slow || !errors.Is(err, context.DeadlineExceeded) {
		return locked, slow
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return false, s.Ping(ctx) == nil
}

// transaction is a writing transaction.
type transaction struct {
	*sql.Tx
	conn    *sql.Conn // connection of the transaction
	careful bool      // existing rows are expected
}

// inTx runs f in a writing transaction, which ends with ctx. f must use the passed context for its statements.
func (s *Store) inTx(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	return s.transact(ctx, func(ctx context.Context, tx *transaction) error { return f(ctx, tx.Tx) })
}

// transact is inTx for functions that need the connection.
func (s *Store) transact(ctx context.Context, f func(context.Context, *transaction) error) (err error) {
	if err := s.placed(); err != nil {
		return err
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close() //nolint:errcheck // returns it to the pool
	defer func() { s.dialect.failed(conn, err) }()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // also after a panic, which would leak the connection; no-op after a commit
	if err := f(s.dialect.inside(ctx), &transaction{Tx: tx, conn: conn}); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err) // err alone only reports that the transaction is over
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return s.placed()
}

// placed fails if the file that a transaction writes is not the one that the next start opens.
func (s *Store) placed() error {
	if s.inPlace == nil {
		return nil
	}
	return s.inPlace()
}

// now returns the store's time, in nanoseconds since the Unix epoch.
func now() int64 { return time.Now().UnixNano() }
