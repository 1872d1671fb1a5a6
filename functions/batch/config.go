package batch

import (
	"time"

	"app-offload/functions/check"
)

// Config says how large batches become and who goes first. The words are those of the configuration file.
type Config struct {
	// MaxCount is the largest number of records in one batch.
	MaxCount int
	// MaxKiB is the largest sum of record bytes in one batch, before sealing. Leave room below the broker's message
	// limit: the readable form grows by a third. A single record above it travels alone.
	MaxKiB int
	// MaxAge is how long the first fresh record of a class waits for company, e.g. "200ms". "0s" sends at once, as do
	// records of 8 KiB and more on average, which company would make little smaller.
	// A backlog never waits: it fills batches by itself.
	MaxAge string
	// BacklogShare is the part of the link's bytes (0–0.9) that records from before keep while fresh ones go first.
	// 0 sends the backlog only when nothing fresh is due.
	BacklogShare float64
	// LowerShare is the part of the link's bytes (0–0.9) that the lanes of lower priority keep together while a higher
	// lane is busy. 0 is strict priority.
	LowerShare float64
}

// DefaultConfig suits a broker that takes messages of 1 MiB.
func DefaultConfig() Config {
	return Config{MaxCount: 1000, MaxKiB: 256, MaxAge: "200ms", BacklogShare: 0.3, LowerShare: 0.1}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	p := check.In("Batch")
	check.Range(p, "MaxCount", c.MaxCount, 1, 100_000)
	check.Range(p, "MaxKiB", c.MaxKiB, 1, 64*1024)
	p.Duration("MaxAge", c.MaxAge, 0, time.Hour)
	check.Range(p, "BacklogShare", c.BacklogShare, 0, 0.9)
	check.Range(p, "LowerShare", c.LowerShare, 0, 0.9)
	return p.Err()
}
