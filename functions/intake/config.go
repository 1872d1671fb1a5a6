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
	MaxPayloadKiB int
	// Unsendable is what becomes of an event that must be able to leave and never can, because it exceeds what a message of
	// Seal.MaxMessageKiB and Seal.MaxDataMiB or a record of the spool may hold, and can be cut no further: "hold" takes it, and it stays in
	// the spool as Export.Oversized says; "refuse" sets it aside at the door, counted under the reason "unsendable".
	Unsendable string
	// MaxDepth is how deeply objects and arrays may nest in an event, the outermost included.
	MaxDepth int
	// MaxEvents is how many events may be under way at once; the next ones wait (acknowledging trigger) or are refused and counted (default trigger).
	MaxEvents int
	// MaxMiB is how many MiB of events may be under way at once, with the same consequence.
	MaxMiB int
	// ReorderWindow is how long the default trigger's events are held to restore their order per device; "0s" hands them on as they come.
	ReorderWindow string

	// MaxHops, 1 to 8, is how many app-offload services may compute one after the other: a class with MatchResultsOf takes a result only
	// if fewer have computed for it. It ends a circle of services that ask for each other's results.
	MaxHops int

	// QuarantineEntries is how many rejected payloads are kept in memory for the API; 0 keeps none, they are still counted.
	QuarantineEntries int
	// QuarantineKiB is how many KiB these may take together; as many, but at least 4 MiB, may wait for QuarantineDir. A larger payload is kept cut.
	QuarantineKiB int
	// QuarantineDir is a folder to which rejected payloads are written too; "" writes none.
	QuarantineDir string
	// QuarantineDirMiB is how many MiB that folder may take; the oldest go first.
	QuarantineDirMiB int

	// ClientID is the acknowledging trigger's MQTT client id, which must be fixed and unique on the broker; "" is the service's key.
	ClientID string
	// PersistentSession keeps unacknowledged and new events at the broker while this service is away; false forgets them.
	PersistentSession bool
	// MaxSlice is how many events that have already arrived are handed on together.
	MaxSlice int
	// RetryAfter is how long the acknowledging trigger waits before it offers an event again that was refused, e.g. by a full spool.
	RetryAfter string
	// RememberIDs is how many events handed on last are recognised when the broker delivers them again; 0 recognises only those under way.
	RememberIDs int
	// KeepAlive is the MQTT keep-alive interval; it bounds how long a dead connection goes unnoticed.
	KeepAlive string
	// ReadBufferKiB is the read buffer of the connection in KiB; it saves a system call for most packets.
	ReadBufferKiB int
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
	p := check.In("Intake")
	check.Range(p, "MaxPayloadKiB", c.MaxPayloadKiB, 1, 256*1024)
	p.OneOf("Unsendable", c.Unsendable, UnsendableHold, UnsendableRefuse)
	check.Range(p, "MaxDepth", c.MaxDepth, 4, 32)
	check.Range(p, "MaxEvents", c.MaxEvents, 1, 1<<20)
	check.Range(p, "MaxMiB", c.MaxMiB, 1, 64*1024)
	p.Duration("ReorderWindow", c.ReorderWindow, 0, 10*time.Second)
	check.Range(p, "MaxHops", c.MaxHops, 1, 8)
	check.Range(p, "QuarantineEntries", c.QuarantineEntries, 0, 100_000)
	check.Range(p, "QuarantineKiB", c.QuarantineKiB, 1, 1<<20)
	check.Range(p, "QuarantineDirMiB", c.QuarantineDirMiB, 1, 1<<20)
	check.Range(p, "MaxSlice", c.MaxSlice, 1, 1024)
	p.Duration("RetryAfter", c.RetryAfter, 10*time.Millisecond, 10*time.Minute)
	check.Range(p, "RememberIDs", c.RememberIDs, 0, 1<<22)
	p.Duration("KeepAlive", c.KeepAlive, 5*time.Second, time.Hour)
	if c.ClientID != "" && !check.Printable(c.ClientID) {
		p.Addf("ClientID", c.ClientID, "must be printable UTF-8, or brokers refuse the connection")
	}
	check.Range(p, "ReadBufferKiB", c.ReadBufferKiB, 4, 16*1024)
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
