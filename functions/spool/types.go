package spool

import (
	"errors"
	"time"

	"app-offload/functions/clock"
)

// Lanes is the number of lanes. A record's lane is its class's priority, 0 … Lanes-1; higher lanes leave first.
const Lanes = 10

// Source is where Take reads records from.
type Source uint8

// The sources of Take.
const (
	Live    Source = iota + 1 // fresh records: in memory, or on disk but leaving first, since the ring had no room and there is no outage yet
	Backlog                   // records on disk: evicted from the ring, or present at the start. For a class it is offered only in an outage
)

// The strategies for a full spool, as named in the configuration.
const (
	Refuse          = "refuse"          // Append returns ErrFull
	DropOldest      = "dropOldest"      // the oldest records of the lowest lane make room
	DropLowestScore = "dropLowestScore" // the lowest scores of the lowest lane make room
	Local           = "local"           // Append returns ErrFull, and the caller processes the task itself
)

// The spool's own reasons for dropping a record. Callers of Drop add theirs.
const (
	ReasonExpired     = "expired"     // its time to live ended
	ReasonFull        = "full"        // it made room in a full spool
	ReasonQuarantined = "quarantined" // its bytes on disk were damaged
	ReasonLost        = "lost"        // a crash lost it before it was synced, as Config.Sync allows
)

// ReasonHere is the reason passed to Drop for a record that was processed locally after all. It is not a loss: Fate returns "here", without
// "dropped", and the consumer learns this fate of the gap.
const ReasonHere = "here"

// The fates besides the reasons.
const (
	FateHeld    = "held"
	FateDone    = "done"
	FateSkipped = "skipped" // no record ever had the sequence
	FateUnknown = ""        // older than the bounded history, or not assigned yet
)

var (
	// ErrFull reports that a record found no room and the strategy made none.
	ErrFull = errors.New("spool is full")
	// ErrClosed reports that the spool is closed or closing.
	ErrClosed = errors.New("spool is closed")
	// ErrTooLarge reports that a record can never fit.
	ErrTooLarge = errors.New("record is too large for the spool")
	// ErrLocked reports that another process has the directory open.
	ErrLocked = errors.New("spool directory is in use by another process")
)

// Record is one task in the spool.
type Record struct {
	Seq     uint64  // assigned by Append, ascending over all lanes; unique within an epoch
	Lane    int     // 0 … 9
	Class   string  // name of the task's class, at most 255 bytes
	Score   float32 // for the strategy dropLowestScore
	Time    int64   // ns since the Unix epoch, by the caller's clock; Append sets it if it is 0. For display: no age depends on it
	Expires int64   // ns since the Unix epoch by the same clock, 0 for never; Expires-Time is how long the record may wait from Append on
	Payload []byte  // must not be modified after Append, nor by the taker
	OnFull  string  // strategy for this record, "" means the configured one; not stored
	Tag     uint64  // the caller's own, not stored: Take returns it only for records still in memory, otherwise 0
	Hold    bool    // leased to the caller of Append from the commit on, until Done, Drop or Release; not stored, so after a crash it is backlog
}

// Queue describes the pending records of one class in one lane.
type Queue struct {
	Lane         int
	Class        string
	Live         int // records that Take returns from Live
	Backlog      int // records that Take returns from Backlog
	LiveBytes    int64
	BacklogBytes int64
}

// ClassStats counts one class. Appended = Done + Σ Dropped + Held.
type ClassStats struct {
	Appended, Done, Held uint64
	HeldBytes            int64
	Dropped              map[string]uint64 // by reason
}

// Stats is the spool at one moment. Appended = Done + Σ Dropped + Held always holds, also after a crash.
type Stats struct {
	Epoch                string
	Appended, Done, Held uint64
	Dropped              map[string]uint64 // by reason
	Classes              map[string]ClassStats

	HeldBytes   int64         // of held records, with their headers
	Limit       int64         // of HeldBytes; the rest of the quota is needed to rewrite segments
	Fill        float64       // the share of Limit in use; 1 while records are refused or dropped for lack of room
	DiskBytes   int64         // of all files
	Quota       int64         // of DiskBytes
	Live        int           // records that Take returns from Live
	LiveBytes   int64         // in the ring
	Backlog     int           // records that Take returns from Backlog
	Leased      int           // taken, neither done nor released
	Locked      int           // held but not available: their key is missing
	OldestAge   time.Duration // since the oldest held record was appended, or released by its holder; 0 without one
	Next, Floor uint64

	Segments    int
	Commits     uint64 // group commits since the start
	Syncs       uint64 // fdatasync calls since the start, for data only
	Written     uint64 // bytes written to the file system since the start
	Refused     uint64 // records refused with ErrFull since the start
	Failed      uint64 // records whose commit failed since the start
	DiskFull    uint64 // times the file system had no space before the quota was reached, since the start
	Quarantined uint64 // damaged places found since the start
	Problem     string // the current background problem, or ""
}

// Damage is one damaged place that was quarantined.
type Damage struct {
	File   string    `json:"file"`          // the segment
	Offset int64     `json:"offset"`        // of the first damaged byte
	Length int64     `json:"length"`        // of the damaged place
	Seq    uint64    `json:"seq,omitempty"` // of the lost record, 0 if its header is damaged too
	Lane   int       `json:"lane"`
	Class  string    `json:"class,omitempty"`
	Reason string    `json:"reason"`
	Found  time.Time `json:"found"`
	Kept   string    `json:"kept,omitempty"` // the file with the damaged bytes, "" if they could not be kept
}

// Keys provides the keys that encrypt records at rest. Both methods may be called often and from several goroutines.
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
	without syncPoint // a test omits one sync
	resize  func(*limits)
}

// WithKeys sets the keys for encryption at rest. Without them a spool configured to encrypt does not open.
func WithKeys(k Keys) Option { return func(o *options) { o.keys = k } }

// WithFS makes the spool use another file system than the machine's.
func WithFS(fs FS) Option { return func(o *options) { o.fs = fs } }

// WithClock makes the spool use another clock than the machine's.
func WithClock(c *clock.Clock) Option { return func(o *options) { o.clock = c } }

// WithProblems calls f for each problem that no caller receives: a failed checkpoint, a damaged record, a missing key. f must neither block nor call
// the spool.
func WithProblems(f func(error)) Option { return func(o *options) { o.problem = f } }
