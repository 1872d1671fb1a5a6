package intake

import (
	"encoding/base64"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/intake/parse"
	"app-offload/functions/quarantine"
)

// Config bounds the intake. The broker's address and login are in the MessageBus section of every EdgeX service.
type Config struct {
	// MaxPayloadKiB is the size in KiB above which an event is quarantined unread. The acknowledging trigger does not even read a message into memory
	// that must contain a larger one.
	MaxPayloadKiB int `within:"1 262144"`
	// Unsendable is the rule for an event that must be able to leave and never can, because it exceeds a message of Seal.MaxMessageKiB and
	// Seal.MaxDataMiB or a record of the spool, and cannot be split further: "hold" accepts it, and it stays in the spool as Export.Oversized says;
	// "refuse" quarantines it on arrival, counted under the reason "unsendable".
	Unsendable string
	// MaxDepth is the maximum nesting of objects and arrays in an event, the outermost included.
	MaxDepth int `within:"4 32"`
	// MaxEvents is the maximum number of events in progress; further ones wait (acknowledging trigger) or are refused and counted (default trigger).
	MaxEvents int `within:"1 1048576"`
	// MaxMiB is the maximum size of all events in progress in MiB, with the same consequence.
	MaxMiB int `within:"1 65536"`
	// ReorderWindow is the time for which the default trigger's events are held to restore their order per device; "0s" passes them on as they arrive.
	ReorderWindow string `within:"0s 10s"`

	// MaxHops, 1 to 8, is the maximum number of app-offload services that compute one after the other: a class with MatchResultsOf takes a result only
	// if fewer have computed on it. It breaks a cycle of services that take each other's results.
	MaxHops int `within:"1 8"`

	// QuarantineEntries is the maximum number of rejected payloads kept in memory for the API; 0 keeps none, they are still counted.
	QuarantineEntries int `within:"0 100000"`
	// QuarantineKiB is the maximum size of these together in KiB; as many, but at least 4 MiB, may wait for QuarantineDir. A larger payload is
	// truncated.
	QuarantineKiB int `within:"1 1048576"`
	// QuarantineDir is a folder to which rejected payloads are written too; "" disables it.
	QuarantineDir string
	// QuarantineDirMiB is the maximum size of that folder in MiB; the oldest payloads are removed first.
	QuarantineDirMiB int `within:"1 1048576"`

	// ClientID is the acknowledging trigger's MQTT client id, which must be fixed and unique on the broker; "" is the service's key.
	ClientID string
	// PersistentSession keeps unacknowledged and new events at the broker while this service is down; false discards them.
	PersistentSession bool
	// MaxSlice is the maximum number of arrived events that are passed on together.
	MaxSlice int `within:"1 1024"`
	// RetryAfter is the time after which the acknowledging trigger submits a refused event again, e.g. after a full spool.
	RetryAfter string `within:"10ms 10m"`
	// RememberIDs is the minimum number of latest events that are recognised when the broker redelivers them; 0 recognises only those in progress.
	RememberIDs int `within:"0 4194304"`
	// KeepAlive is the MQTT keep-alive interval; it bounds how long a dead connection goes unnoticed.
	KeepAlive string `within:"5s 1h"`
	// ReadBufferKiB is the read buffer of the connection in KiB; it saves a system call for most packets.
	ReadBufferKiB int `within:"4 16384"`
}

// The values of Config.Unsendable.
const (
	UnsendableHold   = "hold"
	UnsendableRefuse = "refuse"
)

// DefaultConfig is the configuration of an absent section.
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

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields("Intake", c)
	p.OneOf("Unsendable", c.Unsendable, UnsendableHold, UnsendableRefuse)
	if c.ClientID != "" && !check.Printable(c.ClientID) {
		p.Addf("ClientID", c.ClientID, "must be printable UTF-8, or brokers refuse the connection")
	}
	return p.Err()
}

// Limits returns the limits of one event.
func (c Config) Limits() parse.Limits {
	return parse.Limits{Bytes: c.MaxPayloadKiB << 10, Depth: c.MaxDepth}
}

// maxPacket is the size in bytes of the largest MQTT packet that may contain such an event: the envelope has it as base64, with a topic and some
// fields.
func (c Config) maxPacket() int { return base64.StdEncoding.EncodedLen(c.MaxPayloadKiB<<10) + 128<<10 }

// duration parses a duration that Validate has accepted.
func duration(text string) time.Duration {
	d, _ := time.ParseDuration(text)
	return d
}

// Quarantine returns the limits of the quarantine.
func (c Config) Quarantine() quarantine.Bounds {
	return quarantine.Bounds{Entries: c.QuarantineEntries, KiB: c.QuarantineKiB, Dir: c.QuarantineDir, DirMiB: c.QuarantineDirMiB}
}
