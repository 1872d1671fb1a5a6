// Package store keeps what the nodes sent: the tasks, what became of every sequence number, and the messages that could
// not be read.
//
// What Commit is given it stores in one transaction or not at all. When it returns without an error everything in the
// group survives a power cut, and only then may a receipt be given for it. A record is identified by (node, epoch,
// sequence) and its content, a task by its event's id, its chunk and its content: a task that comes again under another sequence
// (an event the bus delivered twice, a spool made anew) is stored once and receipted under both. One node's tasks never shadow
// another's. Numbers and ids alone prove nothing, because copies of disks use them again: a record whose content differs from what
// is stored under its (node, epoch, sequence) is a conflict, which is quarantined and never receipted.
//
// SQLite and PostgreSQL hold the same tables; what differs between them is in dialect.go and the files named after them. Every
// method may be called from several goroutines, and several processes may share one database.
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

// What can have become of a sequence, besides the reasons a node gives for records that are gone.
const (
	Stored  = "stored"  // the task is in the records table, under this or an earlier sequence
	Dead    = "dead"    // the record arrived but could not be decoded; it is among the dead letters
	Skipped = "skipped" // the node's word that no record ever had the sequence
)

// Record is one record of an opened batch.
type Record struct {
	Sequence uint64
	Task     *task.Task // nil if the record could not be decoded
	Raw      []byte     // what could not be decoded; unused otherwise
	Problem  string     // why Task is nil
}

// Batch is what one message brought. Floor is the smallest sequence that the node still held when it made the batch; Session
// names the opening of the spool that it came from, "" where the node does not say.
type Batch struct {
	Node, Epoch, Session string
	Floor                uint64
	Records              []Record
}

// Gone is a node's word about records that will never come; the fate of each span is the reason.
type Gone struct {
	Node, Epoch string
	Spans       []ranges.Span
}

// Group is what one transaction stores.
type Group struct {
	Batches   []*Batch
	Gone      []*Gone
	Letters   []*Letter    // messages that could not be opened
	Settled   []int64      // dead letters that a retry has dealt with
	Confirmed []*Confirmed // results that nodes have dealt with
	Hasty     bool         // do not wait long for rows that another session holds
}

// Records counts the records of all batches.
func (g *Group) Records() (n int) {
	for _, b := range g.Batches {
		n += len(b.Records)
	}
	return n
}

// Receipt answers the batches of one session of a stream. Safe are the sequences that this group made safe, Gaps those that are
// missing: below the floor, neither here nor declared gone. Conflicts hold something else than what was stored under their
// sequences before, by this session or another; they are not safe.
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

// Result is what a committed group came to.
type Result struct {
	Receipts         []Receipt
	Fresh            []Fresh
	DuplicateRecords int // sequences that were known already
	DuplicateTasks   int // new sequences whose task was stored before under another one
	DeadRecords      int // records quarantined because they could not be decoded
	Conflicts        int // records that differ from what is stored under their sequence
	Letters          int // messages quarantined for the first time
	LettersRefused   int // messages not quarantined because the table is full
	Confirmed        int // results confirmed by their nodes for the first time
	Jobs             int // new records that a worker is to compute on
}

// Options bound what the store keeps.
type Options struct {
	MustExist  bool // create and change no tables, as a command that only looks should not
	Works      bool // with MustExist: it writes beside others, so a session that hangs must not hold them up
	DeadCount  int  // most dead letters kept; 0 is 10,000
	DeadMiB    int  // most bytes of dead letters kept; 0 is 256 MiB
	ReadersMax int  // connections for reading beside the writing one; 0 is 4
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
	takes       atomic.Uint64 // of jobs; see TakeJobs
	careful     atomic.Int32  // commits that are to expect rows which are there already
	lanes       int           // see Lanes
	protect     func() error  // keeps other users from the tables, once they are known to be the store's; nil where a server does
	inPlace     func() error  // fails where the file is no longer where it was opened; nil where a server keeps it
	close       func() error
}

// Open opens "sqlite:PATH" or a "postgres://…" URL and creates the tables where there are none yet.
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
		// The text is not shown: it may hold a password.
		return nil, errors.New("the store is of an unknown kind; use sqlite:PATH or postgres://user@host/database")
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
		err = s.protect()
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("preparing the tables of the %s store: %w", s.dialect.name(), explained(err))
	}
	return s, nil
}

// SetModels names the model that computes on the records of a class, from the next Commit on. A class that is not in it costs nothing more.
func (s *Store) SetModels(byClass map[string]string) { s.models.Store(&byClass) }

// Lanes is how many transactions the database takes at a time: SQLite one, PostgreSQL as many as leave half of the connections to readers, up to 4.
func (s *Store) Lanes() int { return s.lanes }

// Close releases the connections; a transaction under way is rolled back.
func (s *Store) Close() error { return s.close() }

// Ping says whether the database answers, and is where it was opened.
func (s *Store) Ping(ctx context.Context) error {
	return errors.Join(s.placed(), s.read.PingContext(ctx))
}

// Permanent reports whether a failed Commit would fail again because of what the group holds, not because of the
// database's state. Such a group must be taken apart, not retried.
func (s *Store) Permanent(err error) bool { return err != nil && s.dialect.permanent(err) }

// Blocked reports whether a Commit failed because another session holds what it needs, or because it ran out of time, while the
// database works. A part of the group may pass then.
func (s *Store) Blocked(err error) (locked, slow bool) {
	if locked, slow = s.dialect.blocked(err); locked || slow || !errors.Is(err, context.DeadlineExceeded) {
		return locked, slow
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return false, s.Ping(ctx) == nil
}

// transaction is one that writes.
type transaction struct {
	*sql.Tx
	conn    *sql.Conn // which it runs on
	careful bool      // rows that are there already are expected
}

// inTx runs f in one writing transaction, which ends with ctx. f is given the context for its statements.
func (s *Store) inTx(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	return s.transact(ctx, func(ctx context.Context, tx *transaction) error { return f(ctx, tx.Tx) })
}

// transact is inTx for an f that needs more of the transaction.
func (s *Store) transact(ctx context.Context, f func(context.Context, *transaction) error) (err error) {
	if err := s.placed(); err != nil {
		return err
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	defer func() { s.dialect.failed(conn, err) }()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // also of a panic, which the connection would hold up; after a commit it does nothing
	if err := f(s.dialect.inside(ctx), &transaction{Tx: tx, conn: conn}); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err) // which says only that the transaction is over
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return s.placed()
}

// placed fails where a transaction writes, or has written, to a file that the next start does not open.
func (s *Store) placed() error {
	if s.inPlace == nil {
		return nil
	}
	return s.inPlace()
}

// now is the store's clock, in nanoseconds since the Unix epoch.
func now() int64 { return time.Now().UnixNano() }
