// Package seal converts batches of records to MQTT messages and back.
//
// Every message is a CloudEvent 1.0 in structured mode, in one of two forms: json, which people and any tool can read, and protobuf, which is small:
// records, compressed, then encrypted. If a key is in use, all context attributes are authenticated together with the payload, so that no attacker on
// the path can move a batch to another node, epoch or position in the sequence. FORMAT.md is the reference for readers in other languages, with
// golden files in testdata/golden and a reader in Python.
//
// A Sealer and an Opener are safe for concurrent use, start no goroutine and block only on their Keys. An Opener never panics and never allocates
// more than its Limits allow, on any input.
//
//	sealer.go                  a batch to a message and back; statement.go: the other messages
//	envelope.go                the CloudEvent in either form; parse.go: parses it; walk.go: reads JSON without reflection
//	record.go                  the records of the json form; readable.go: CBOR events in it
//	compress.go, fold/         compression, and what precedes it; cipher.go: encryption and nonces
//
// Messages are built and read in layers: batch or statement, records, compression, cipher, envelope.
package seal

import "time"

// Batch is the content of one message: records of one class, each encoded by task.Append.
type Batch struct {
	ID                 string // unique within the node; the same batch sent again may keep it
	Node, Epoch, Class string // Class may be empty
	// Session is a random id of one opening of the node's spool by one process. Two copies of a spool share their epoch but not their session. It is
	// empty from nodes without this attribute.
	Session   string
	Created   time.Time
	Floor     uint64   // the smallest sequence the node still holds: all lower ones are settled
	Sequences []uint64 // one for each task, in the order of Tasks; not necessarily ascending
	Tasks     [][]byte
}

// Keys provides keys by id. Implementations must be safe for concurrent use and fast: they are called for every message, so that a rotation takes
// effect without a restart.
type Keys interface {
	// Current returns the key to seal with. An empty id without an error means that no key is configured.
	Current() (id string, key []byte, err error)
	// Key returns any key that may still open messages.
	Key(id string) ([]byte, error)
}

// Range is an inclusive range of sequences, written [first, last] in JSON.
type Range struct{ First, Last uint64 }

// Receipt is the consumer's statement about one epoch of one node: what it has stored, and what is missing in between. It states facts that stay
// true, so a repeated or late receipt does no harm.
type Receipt struct {
	ID          string
	Node, Epoch string
	// Session is the session of the batches that the receipt answers. A node accepts a receipt of its own session, or one without a session, from a
	// consumer that does not know the attribute.
	Session string
	Created time.Time
	Safe    []Range // stored and committed by the consumer
	Gaps    []Range // missing below the highest sequence seen
	// Conflicts are sequences under which the consumer has stored other content: another spool uses the same epoch. They are never in Safe.
	Conflicts []Range
	Limits    ConsumerLimits
}

// ConsumerLimits are the limits that a consumer accepts, in bytes; 0 means unknown.
type ConsumerLimits struct {
	MaxMessage int64 `json:"maxMessage,omitempty"` // a message as published
	MaxData    int64 `json:"maxData,omitempty"`    // its payload after decompression
}

// Announcement is a consumer's statement that it has subscribed: nodes immediately repeat batches without a receipt.
type Announcement struct {
	ID       string
	Consumer string
	Created  time.Time
	Limits   ConsumerLimits
}

// Gone is the node's answer to gaps that it can no longer fill.
type Gone struct {
	ID          string
	Node, Epoch string
	Created     time.Time
	Ranges      []GoneRange
}

// GoneRange is a range of sequences that will never arrive, and why: the fate the spool remembers, such as "expired".
type GoneRange struct {
	Range
	Reason string
}

// Result is the outcome of one task as the cloud reports it.
type Result struct {
	ID          string
	Node        string
	Created     time.Time
	EventID     string
	Chunk       int
	Completed   time.Time // time of completion, by the cloud's clock
	OK          bool
	Error       string // why not, if not OK
	ContentType string // of Payload; "" without one
	Payload     []byte // optional result for the node, at most as large as a message
}
