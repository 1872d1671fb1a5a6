package intake

import (
	"encoding/base64"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/intake/parse"
	"app-offload/functions/quarantine"
)

// Config bounds the intake. Where the broker is and how to log in there is not here: it comes from the MessageBus
// section every EdgeX service has.
type Config struct {
	// MaxPayloadKiB is the size in KiB over which an event is set aside unread. The acknowledging trigger does not even take a message
	// into memory that must hold a larger one.
	MaxPayloadKiB int `within:"1 262144"`
	// Unsendable is what becomes of an event that must be able to leave and never can, because it exceeds what a message of
	// Seal.MaxMessageKiB and Seal.MaxDataMiB or a record of the spool may hold, and can be cut no further: "hold" takes it, and it stays in
	// the spool as Export.Oversized says; "refuse" sets it aside at the door, counted under the reason "unsendable".
	Unsendable string
	// MaxDepth is how deeply objects and arrays may nest in an event, the outermost included.
	MaxDepth int `within:"4 32"`
	// MaxEvents is how many events may be under way at once; the next ones wait (acknowledging trigger) or are refused and counted (default trigger).
	MaxEvents int `within:"1 1048576"`
	// MaxMiB is how many MiB of events may be under way at once, with the same consequence.
	MaxMiB int `within:"1 65536"`
	// ReorderWindow is how long the default trigger's events are held to restore their order per device; "0s" hands them on as they come.
	ReorderWindow string `within:"0s 10s"`

	// MaxHops, 1 to 8, is how many app-offload services may compute one after the other: a class with MatchResultsOf takes a result only
	// if fewer have computed for it. It ends a circle of services that ask for each other's results.
	MaxHops int `within:"1 8"`

	// QuarantineEntries is how many rejected payloads are kept in memory for the API; 0 keeps none, they are still counted.
	QuarantineEntries int `within:"0 100000"`
	// QuarantineKiB is how many KiB these may take together; as many, but at least 4 MiB, may wait for QuarantineDir. A larger payload is kept cut.
	QuarantineKiB int `within:"1 1048576"`
	// QuarantineDir is a folder to which rejected payloads are written too; "" writes none.
	QuarantineDir string
	// QuarantineDirMiB is how many MiB that folder may take; the oldest go first.
	QuarantineDirMiB int `within:"1 1048576"`

	// ClientID is the acknowledging trigger's MQTT client id, which must be fixed and unique on the broker; "" is the service's key.
	ClientID string
	// PersistentSession keeps unacknowledged and new events at the broker while this service is away; false forgets them.
	PersistentSession bool
	// MaxSlice is how many events that have already arrived are handed on together.
	MaxSlice int `within:"1 1024"`
	// RetryAfter is how long the acknowledging trigger waits before it offers an event again that was refused, e.g. by a full spool.
	RetryAfter string `within:"10ms 10m"`
	// RememberIDs is how many events handed on last are recognised at least when the broker delivers them again; 0 recognises only those under way.
	RememberIDs int `within:"0 4194304"`
	// KeepAlive is the MQTT keep-alive interval; it bounds how long a dead connection goes unnoticed.
	KeepAlive string `within:"5s 1h"`
	// ReadBufferKiB is the read buffer of the connection in KiB; it saves a system call for most packets.
	ReadBufferKiB int `within:"4 16384"`
}

// The words of Config.Unsendable.
const (
	UnsendableHold   = "hold"
	UnsendableRefuse = "refuse"
)

// DefaultConfig is what an absent section means.
func DefaultConfig() Config {
	return Config{
		MaxPayloadKiB: parse.DefaultLimits().Bytes >> 10,
		Unsendable:    UnsendableHold,
		MaxDepth:      parse.DefaultLimits().Depth,
		MaxEvents:     1024,
		MaxMiB:        64,
		ReorderWindow: "20ms",
		MaxHops:       3,

		QuarantineEntries: 100,
		QuarantineKiB:     1024,
		QuarantineDirMiB:  16,

		PersistentSession: true,
		MaxSlice:          64,
		RetryAfter:        "1s",
		RememberIDs:       16384,
		KeepAlive:         "30s",
		ReadBufferKiB:     64,
	}
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	p := check.Fields("Intake", c)
	p.OneOf("Unsendable", c.Unsendable, UnsendableHold, UnsendableRefuse)
	if c.ClientID != "" && !check.Printable(c.ClientID) {
		p.Addf("ClientID", c.ClientID, "must be printable UTF-8, or brokers refuse the connection")
	}
	return p.Err()
}

// Limits are the bounds of one event.
func (c Config) Limits() parse.Limits {
	return parse.Limits{Bytes: c.MaxPayloadKiB << 10, Depth: c.MaxDepth}
}

// maxPacket is the size in bytes of the largest MQTT packet that may hold such an event: the envelope carries it as base64, and
// besides it a topic and some fields.
func (c Config) maxPacket() int { return base64.StdEncoding.EncodedLen(c.MaxPayloadKiB<<10) + 128<<10 }

// duration reads a duration that Validate has passed.
func duration(text string) time.Duration {
	d, _ := time.ParseDuration(text)
	return d
}

// Quarantine are the bounds of the quarantine.
func (c Config) Quarantine() quarantine.Bounds {
	return quarantine.Bounds{Entries: c.QuarantineEntries, KiB: c.QuarantineKiB, Dir: c.QuarantineDir, DirMiB: c.QuarantineDirMiB}
}
