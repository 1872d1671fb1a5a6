// Package seal turns batches of records into the bytes of MQTT messages and back.
//
// Every message is a CloudEvent 1.0 in structured mode, in one of two forms: json, which people and any tool can read, and
// protobuf, which is small: records, compressed, then encrypted. All context attributes are authenticated together
// with the payload wherever a key is in use, so that no attacker on the path can move a batch to another node, epoch or place
// in the sequence. FORMAT.md is the reference for readers in other languages, with golden files in testdata/golden and
// a reader in Python.
//
// A Sealer and an Opener are safe for concurrent use, start no goroutine and never block on anything but the Keys they
// were given. An Opener never panics and never allocates more than its Limits allow, whatever bytes it is handed.
//
//	sealer.go                  a batch to a message and back; statement.go the other messages
//	envelope.go                the CloudEvent in either form; parse.go reads it, walk.go reads JSON without reflection
//	record.go                  the records of the form json; readable.go shows events of CBOR in it
//	compress.go, fold/         compression, and what precedes it; cipher.go encryption and the nonces
//
// A message is built and read in layers: batch or statement, records, compression, cipher, envelope.
package seal

import "time"

// Batch is what one message carries: records of one class, each the bytes that task.Append made.
type Batch struct {
	ID                 string // unique within the node; the same batch sent again may keep it
	Node, Epoch, Class string // Class may be empty
	// Session is a random id of one opening of the node's spool by one process. Two copies of a spool share their epoch, never
	// their session. Empty from nodes that do not have it.
	Session   string
	Created   time.Time
	Floor     uint64   // the smallest sequence the node still holds: everything below is settled
	Sequences []uint64 // one for each task, in the order of Tasks; need not ascend
	Tasks     [][]byte
}

// Keys hands out keys by their id. Implementations must be safe for concurrent use, and fast: they are asked for every
// message, which is what makes a rotation take effect without a restart.
type Keys interface {
	// Current is the key to seal with. An empty id without an error says that no key is configured.
	Current() (id string, key []byte, err error)
	// Key finds any key that may still open messages.
	Key(id string) ([]byte, error)
}

// Range is an inclusive range of sequences, written [first, last] in JSON.
type Range struct{ First, Last uint64 }

// Receipt is the consumer's statement about one epoch of one node: what it has stored, and what it misses in between.
// It states facts that stay true, so a repeated or late one does no harm.
type Receipt struct {
	ID          string
	Node, Epoch string
	// Session is that of the batches that the receipt answers. A node takes a receipt of its own session, or one without a
	// session, as consumers send that do not know the attribute.
	Session string
	Created time.Time
	Safe    []Range // stored and committed by the consumer
	Gaps    []Range // missing below the highest sequence seen
	// Conflicts are sequences under which the consumer has stored something else: another spool uses the same epoch. They are
	// never in Safe.
	Conflicts []Range
	Limits    ConsumerLimits
}

// ConsumerLimits say what a consumer takes, in bytes; 0 says nothing.
type ConsumerLimits struct {
	MaxMessage int64 `json:"maxMessage,omitempty"` // a message as published
	MaxData    int64 `json:"maxData,omitempty"`    // its payload once decompressed
}

// Announcement is a consumer's statement that its subscription stands: nodes repeat at once what is not receipted.
type Announcement struct {
	ID       string
	Consumer string
	Created  time.Time
	Limits   ConsumerLimits
}

// Gone is the node's answer to gaps that it cannot fill any more.
type Gone struct {
	ID          string
	Node, Epoch string
	Created     time.Time
	Ranges      []GoneRange
}

// GoneRange is a range of sequences that will never come, and why: the fate the spool remembers, such as "expired".
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
	Completed   time.Time // when the work was done, by the cloud's clock
	OK          bool
	Error       string // why not, if not OK
	ContentType string // of Payload; "" without one
	Payload     []byte // optional result for the node, at most as large as a message may be
}
