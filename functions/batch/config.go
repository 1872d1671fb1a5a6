package batch

import (
	"app-offload/functions/check"
)

// Config configures the size of batches and the order in which they leave.
type Config struct {
	// MaxCount is the maximum number of records in a batch.
	MaxCount int `within:"1 100000"`
	// MaxKiB is the maximum sum of record bytes in a batch, before sealing, in KiB. Leave room below the broker's message limit: the readable form
	// grows by a third. A single larger record travels alone.
	MaxKiB int `within:"1 65536"`
	// MaxAge is how long the first fresh record of a class waits for more, such as "200ms". "0s" sends immediately. Records of 8 KiB and more on
	// average never wait, since a larger batch would hardly be smaller per record. A backlog never waits either: it fills batches by itself.
	MaxAge string `within:"0s 1h"`
	// BacklogShare is the share of the link's bytes (0–0.9) that the backlog keeps while fresh records go first. With 0 the backlog is sent only if
	// no fresh records are due.
	BacklogShare float64 `within:"0 0.9"`
	// LowerShare is the share of the link's bytes (0–0.9) that the lanes of lower priority keep together while a higher lane is busy. 0 means strict
	// priority.
	LowerShare float64 `within:"0 0.9"`
}

// DefaultConfig returns a configuration for a broker that accepts messages of 1 MiB.
func DefaultConfig() Config {
	return Config{MaxCount: 1000, MaxKiB: 256, MaxAge: "200ms", BacklogShare: 0.3, LowerShare: 0.1}
}

// Validate returns all problems together.
func (c Config) Validate() error {
	p := check.Fields("Batch", c)
	return p.Err()
}
