package batch

import (
	"app-offload/functions/check"
)

// Config says how large batches become and who goes first. The words are those of the configuration file.
type Config struct {
	// MaxCount is the largest number of records in one batch.
	MaxCount int `within:"1 100000"`
	// MaxKiB is the largest sum of record bytes in one batch, before sealing. Leave room below the broker's message
	// limit: the readable form grows by a third. A single record above it travels alone.
	MaxKiB int `within:"1 65536"`
	// MaxAge is how long the first fresh record of a class waits for company, e.g. "200ms". "0s" sends at once, as do
	// records of 8 KiB and more on average, which company would make little smaller.
	// A backlog never waits: it fills batches by itself.
	MaxAge string `within:"0s 1h"`
	// BacklogShare is the part of the link's bytes (0–0.9) that records from before keep while fresh ones go first.
	// 0 sends the backlog only when nothing fresh is due.
	BacklogShare float64 `within:"0 0.9"`
	// LowerShare is the part of the link's bytes (0–0.9) that the lanes of lower priority keep together while a higher
	// lane is busy. 0 is strict priority.
	LowerShare float64 `within:"0 0.9"`
}

// DefaultConfig suits a broker that takes messages of 1 MiB.
func DefaultConfig() Config {
	return Config{MaxCount: 1000, MaxKiB: 256, MaxAge: "200ms", BacklogShare: 0.3, LowerShare: 0.1}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	p := check.Fields("Batch", c)
	return p.Err()
}
