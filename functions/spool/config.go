package spool

import (
	"app-offload/functions/check"
)

// The sync policies, as named in the configuration.
const (
	SyncAlways   = "always"
	SyncInterval = "interval"
	SyncNone     = "none"
)

// Config configures where records are stored, how many, and how safely.
type Config struct {
	// Directory holds the spool's files. Only one process at a time may use it.
	Directory string
	// QuotaMiB is the maximum size on disk, in MiB. Records may fill about four fifths of it; the spool uses the rest to rewrite and delete segments.
	// There is no unlimited spool: 0 is rejected.
	QuotaMiB int `within:"16 16777216"`
	// SegmentMiB is the size of one log file, in MiB. Disk space is freed in these steps. 0 means a 64th of the quota, at least 1 and at most 64.
	SegmentMiB int `within:"0 1024"`
	// SpareMiB is the disk space, in MiB and within the quota, of emptied segments that are kept and overwritten instead of deleted. Syncing blocks
	// that were written before is twice as fast as syncing fresh ones and wears flash by a third less, so only the first long outage uses fresh
	// blocks. 0 means a quarter of the quota; at least four segments are kept.
	SpareMiB int
	// RingMiB is the memory, in MiB, that holds fresh records so that they are exported without reading the disk. 0 means none: every record is read
	// from disk. After the link has been down for 1 s the ring holds a quarter of it, after 5 s a sixteenth.
	RingMiB int `within:"0 65536"`
	// PendingMiB is the maximum size of records that wait for the next commit, in MiB; Append blocks above it.
	PendingMiB int `within:"1 65536"`
	// Sync is when a record counts as stored: "always" after it reached the disk, "interval" and "none" as soon as the operating system has it. A
	// power cut then loses up to SyncInterval, or all data that the system had not written yet.
	Sync string
	// SyncInterval is the interval between two syncs if Sync is "interval", a duration; otherwise it has no effect.
	SyncInterval string `within:"1ms 1h"`
	// CommitInterval is the shortest interval between the starts of two commits under load, a duration. Records that arrive meanwhile share the
	// second commit, which spares flash and CPU. If a sync takes longer than half of it, the interval is twice the time of a sync, at most four times
	// the setting. Records that arrive after a pause, and full commits, are committed immediately; 0 never delays.
	CommitInterval string `within:"0s 1s"`
	// AckInterval is the interval between two writes of the records done, a duration. A crash loses at most this much of that knowledge, and those
	// records are sent again.
	AckInterval string `within:"1ms 1h"`
	// OnFull is the strategy for records without one of their own: "refuse"; "dropOldest" or "dropLowestScore", which drop records of the lowest lane
	// first, and never of a higher lane than the new record's; or "local", which refuses and lets the caller process the task.
	OnFull string
	// Encrypt encrypts payloads by AES-256-GCM with the current key. Class names, times and sizes stay readable.
	Encrypt bool
	// QuarantineMiB is the maximum size of damaged bytes kept for inspection, in MiB, and at most a 16th of the quota; 0 keeps none and only counts
	// them.
	QuarantineMiB int `within:"0 65536"`
	// History is the number of ranges of removed sequences kept in memory, which explain gaps to the consumer. Older ranges are kept in a file of a
	// 64th of the quota, at most 16 MiB, created when first needed.
	History int `within:"16 1048576"`
}

// DefaultConfig returns the default configuration.
func DefaultConfig() Config {
	return Config{
		Directory:      "spool",
		QuotaMiB:       1024,
		SegmentMiB:     0,
		SpareMiB:       0,
		RingMiB:        16,
		PendingMiB:     16,
		Sync:           SyncAlways,
		SyncInterval:   "1s",
		CommitInterval: "8ms",
		AckInterval:    "1s",
		OnFull:         Refuse,
		QuarantineMiB:  16,
		History:        4096,
	}
}

// Validate returns all problems together.
func (c Config) Validate() error {
	p := check.Fields("Spool", c)
	if c.Directory == "" {
		p.Addf("Directory", c.Directory, "must name a folder")
	}
	if p.Fine("QuotaMiB", "SegmentMiB") && c.SegmentMiB > c.QuotaMiB/16 {
		p.Addf("SegmentMiB", c.SegmentMiB, "must be at most a 16th of QuotaMiB (%d); 0 chooses a size", c.QuotaMiB/16)
	}
	if p.Fine("QuotaMiB") {
		check.Range(p, "SpareMiB", c.SpareMiB, 0, c.QuotaMiB/2)
	}
	p.OneOf("Sync", c.Sync, SyncAlways, SyncInterval, SyncNone)
	p.OneOf("OnFull", c.OnFull, Refuse, DropOldest, DropLowestScore, Local)
	return p.Err()
}
