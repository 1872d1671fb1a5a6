package spool

import (
	"app-offload/functions/check"
)

// The sync policies, by their words in the configuration.
const (
	SyncAlways   = "always"
	SyncInterval = "interval"
	SyncNone     = "none"
)

// Config says where records are kept, how many, and how safely.
type Config struct {
	// Directory holds the spool's files; one process at a time may use it.
	Directory string
	// QuotaMiB bounds the bytes on disk, in MiB. Records may fill about four fifths of it; the rest lets segments be
	// rewritten and deleted. There is no unlimited spool: 0 is refused.
	QuotaMiB int `within:"16 16777216"`
	// SegmentMiB is the size of one log file, in MiB; space is given back to the disk in such steps. 0 chooses a 64th of
	// the quota, at least 1 and at most 64.
	SegmentMiB int `within:"0 1024"`
	// SpareMiB is how much disk, in MiB and within the quota, emptied segments keep to be written over instead of being deleted.
	// Blocks that were written before are synced at twice the speed and for two thirds of the wear of fresh ones, so that only
	// the first long outage pays for fresh ones. 0 chooses a quarter of the quota; at least four segments are kept.
	SpareMiB int
	// RingMiB bounds the memory that keeps fresh records for export without reading the disk, in MiB; 0 keeps none, so that
	// every record is read back. When the link has been gone for 1 s it holds a quarter of that, and after 5 s a sixteenth.
	RingMiB int `within:"0 65536"`
	// PendingMiB bounds the bytes that wait for the next commit, in MiB; Append blocks beyond it.
	PendingMiB int `within:"1 65536"`
	// Sync says when a record counts as stored: "always" after it reached the disk, "interval" and "none" as soon as the
	// operating system has it. A power cut then loses up to SyncInterval, or whatever the system had not yet written.
	Sync string
	// SyncInterval is the time between two syncs under Sync "interval", a duration; it has no effect otherwise.
	SyncInterval string `within:"1ms 1h"`
	// CommitInterval is the shortest time between the beginnings of two commits under load, a duration: what comes meanwhile shares the
	// second one, which spares flash and CPU. Where syncing takes longer than half of it, it is twice that time, at most four times
	// what is set. What comes after a pause is committed at once, and so is a full commit; 0 never waits.
	CommitInterval string `within:"0s 1s"`
	// AckInterval is the time between two writes of what is done, a duration. A crash forgets at most that much, and those
	// records are then sent again.
	AckInterval string `within:"1ms 1h"`
	// OnFull is the strategy of records that bring none: "refuse", "dropOldest" and "dropLowestScore" (both of the lowest lane
	// first, and never of a higher lane than the new record's), or "local", which refuses and lets the caller process.
	OnFull string
	// Encrypt stores payloads encrypted by AES-256-GCM with the current key; names of classes, times and sizes stay readable.
	Encrypt bool
	// QuarantineMiB bounds the damaged bytes that are kept for inspection, in MiB, and a 16th of the quota does so too; 0 keeps
	// none and only counts.
	QuarantineMiB int `within:"0 65536"`
	// History is how many ranges of sequences whose records are gone are remembered in memory, so that gaps can be explained. Older
	// ones are kept in a file, which takes a 64th of the quota, at most 16 MiB, once there are any.
	History int `within:"16 1048576"`
}

// DefaultConfig is what the service runs with when nothing is configured.
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

// Validate reports all problems at once.
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
