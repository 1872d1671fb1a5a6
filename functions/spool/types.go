package spool

import (
	"errors"
	"time"

	"app-offload/functions/clock"
)

// Lanes is the number of lanes; a record's lane is its class's priority, 0 … Lanes-1, and higher ones leave first.
const Lanes = 10

// Source says where a record is taken from.
type Source uint8

// The sources of Take.
const (
	Live    Source = iota + 1 // fresh: in memory, or to be read from disk before what is, as the ring had no room and there is no outage yet
	Backlog                   // to be read from disk: what fell out of the ring, or was there at the start. Of a class, it is offered in an outage alone
)

// The strategies for a full spool, by their words in the configuration.
const (
	Refuse          = "refuse"          // Append reports ErrFull
	DropOldest      = "dropOldest"      // the oldest of the lowest lane make room
	DropLowestScore = "dropLowestScore" // the lowest scores of the lowest lane make room
	Local           = "local"           // Append reports ErrFull, and the caller processes the task itself
)

// The reasons the spool itself gives for dropping a record. Drop adds the caller's own.
const (
	ReasonExpired     = "expired"     // its time to live ended
	ReasonFull        = "full"        // it made room in a full spool
	ReasonQuarantined = "quarantined" // its bytes on disk were damaged
	ReasonLost        = "lost"        // a crash took it before it was synced, as Config.Sync allowed
)

// ReasonHere is what Drop is told of a record whose work was done on this node after all. Nothing is lost by it: Fate says "here",
// without a "dropped", and the consumer is told so of the gap that it leaves.
const ReasonHere = "here"

// The words of Fate for what Drop and the reasons above do not name.
const (
	FateHeld    = "held"
	FateDone    = "done"
	FateSkipped = "skipped" // the sequence was never given to a record
	FateUnknown = ""        // older than the bounded history, or not given out yet
)

var (
	// ErrFull says that a record found no room and the strategy made none.
	ErrFull = errors.New("spool is full")
	// ErrClosed says that the spool is closed or closing.
	ErrClosed = errors.New("spool is closed")
	// ErrTooLarge says that a record can never fit.
	ErrTooLarge = errors.New("record is too large for the spool")
	// ErrLocked says that another process has the directory open.
	ErrLocked = errors.New("spool directory is in use by another process")
)

// Record is one task on its way through the spool.
type Record struct {
	Seq     uint64  // given by Append, ascending over all lanes; never given twice within an epoch
	Lane    int     // 0 … 9
	Class   string  // name of the task's class, at most 255 bytes
	Score   float32 // for the strategy dropLowestScore
	Time    int64   // ns since the Unix epoch, the caller's clock; Append stamps it where it is 0. For people: no age comes from it
	Expires int64   // ns since the Unix epoch by the same clock, 0 never; Expires-Time is how long it may wait from Append on
	Payload []byte  // must not be modified after Append, nor by its taker
	OnFull  string  // strategy for this record, "" is the configured one; not stored
	Tag     uint64  // the caller's own, not stored: only a Live record gives it back, any other has 0
	Hold    bool    // leased from its commit on, for who appended it, until Done, Drop or Release; not stored, so that after a crash it is backlog
}

// Queue describes what can be taken from one class of one lane.
type Queue struct {
	Lane         int
	Class        string
	Live         int // records to be taken from Live
	Backlog      int // records to be taken from Backlog
	LiveBytes    int64
	BacklogBytes int64
}

// ClassStats counts one class. Appended = Done + Σ Dropped + Held.
type ClassStats struct {
	Appended, Done, Held uint64
	HeldBytes            int64
	Dropped              map[string]uint64 // by reason
}

// Stats is the spool at one moment. Appended = Done + Σ Dropped + Held holds always, also after a crash.
type Stats struct {
	Epoch                string
	Appended, Done, Held uint64
	Dropped              map[string]uint64 // by reason
	Classes              map[string]ClassStats

	HeldBytes   int64         // of records held, with their headers
	Limit       int64         // of HeldBytes; the rest of the quota keeps the log able to move
	Fill        float64       // the share of Limit in use; 1 while records are refused or dropped for want of room
	DiskBytes   int64         // of all files
	Quota       int64         // of DiskBytes
	Live        int           // records to be taken from Live
	LiveBytes   int64         // in the ring
	Backlog     int           // records to be taken from Backlog
	Leased      int           // taken, and neither done nor released
	Locked      int           // held, but not to be taken: their key is not available
	OldestAge   time.Duration // since the oldest record held was appended, or released by its holder; 0 without one
	Next, Floor uint64

	Segments    int
	Commits     uint64 // group commits since the start
	Syncs       uint64 // fdatasync calls since the start, of data alone
	Written     uint64 // bytes given to the file system since the start
	Refused     uint64 // records refused with ErrFull since the start
	Failed      uint64 // records whose commit failed since the start
	DiskFull    uint64 // times the file system had no space before the quota was reached, since the start
	Quarantined uint64 // damaged places found since the start
	Problem     string // the last background problem, "" when it is over
}

// Damage is one damaged place that was set aside.
type Damage struct {
	File   string    `json:"file"`          // the segment
	Offset int64     `json:"offset"`        // of the first damaged byte
	Length int64     `json:"length"`        // of the damaged place
	Seq    uint64    `json:"seq,omitempty"` // of the record lost, 0 where its header is damaged too
	Lane   int       `json:"lane"`
	Class  string    `json:"class,omitempty"`
	Reason string    `json:"reason"`
	Found  time.Time `json:"found"`
	Kept   string    `json:"kept,omitempty"` // the file that has the damaged bytes, "" where they could not be kept
}

// Keys gives the keys that encrypt records at rest. Both methods may be called often and from several goroutines.
type Keys interface {
	Current() (id string, key []byte, err error)
	Key(id string) ([]byte, error)
}

// Option changes how a spool is opened.
type Option func(*options)

type options struct {
	fs      FS
	keys    Keys
	clock   *clock.Clock
	problem func(error)

	rescan  bool      // do not trust index files
	without syncPoint // a test leaves out one sync
	resize  func(*limits)
}

// WithKeys gives the keys for encryption at rest. Without them a spool configured to encrypt does not open.
func WithKeys(k Keys) Option { return func(o *options) { o.keys = k } }

// WithFS runs the spool on another file system than the machine's own.
func WithFS(fs FS) Option { return func(o *options) { o.fs = fs } }

// WithClock runs the spool by another clock than the machine's own.
func WithClock(c *clock.Clock) Option { return func(o *options) { o.clock = c } }

// WithProblems calls f for each problem that no caller can be told of: a failed checkpoint, a damaged record, a key that
// is missing. f must not block nor call the spool.
func WithProblems(f func(error)) Option { return func(o *options) { o.problem = f } }
