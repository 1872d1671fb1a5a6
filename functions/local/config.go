package local

import (
	"runtime"
	"time"

	"app-offload/functions/check"
)

// Config bounds the local work.
type Config struct {
	// Workers is the number of goroutines that run operators. All tasks of a device go to the same worker. 0 means one for each core. A change needs a restart.
	Workers int `within:"0 256"`
	// QueueTasks is the maximum number of queued tasks, shared evenly by all workers. A full queue blocks the caller. A change needs a restart.
	QueueTasks int `within:"1 1000000"`
	// Operators is the notation for classes without their own. "" and "none" compute nothing for these classes.
	Operators string
	// MaxKeys is the maximum number of remembered resources of devices, for all workers together, about 2 KiB each. A new resource beyond it is not
	// processed locally until another one was silent for KeyTTL: its tasks go to the cloud and are counted, and the log reports once how many
	// resources there are. -1 uses a 16th of the memory of the node or container, for 10,000 to 1,000,000 resources.
	MaxKeys int
	// KeyTTL is the time of silence after which a resource is forgotten, e.g. "1h". "0s" means never.
	KeyTTL string
	// SampleMiB bounds the memory for the values that percentiles are computed from, for all workers together. When it is used up, new windows keep
	// fewer values, and their percentiles become estimates. A change needs a restart.
	SampleMiB int `within:"1 65536"`
	// MaxAhead is the maximum time by which a reading's time may be ahead of this node's clock, e.g. "1m". Beyond it, the time of reception is used:
	// otherwise one wrong clock would make all later values late.
	MaxAhead string
	// Retries is the maximum number of immediate retries of a failed publication. 0 disables retries.
	Retries int `within:"0 100"`
	// RetryWait is the pause before each retry, e.g. "100ms".
	RetryWait string
	// PendingResults is the maximum number of window results that wait for the bus, for all workers together. Beyond it, the oldest result is dropped
	// and counted. 0 drops a result immediately.
	PendingResults int `within:"0 1000000"`
}

// DefaultConfig suits a small gateway: at most about 50 MiB of state.
func DefaultConfig() Config {
	return Config{
		Workers: 0, QueueTasks: 4096, Operators: "summary window=60s",
		MaxKeys: -1, KeyTTL: "1h", SampleMiB: 32, MaxAhead: "1m",
		Retries: 2, RetryWait: "100ms", PendingResults: 1024,
	}
}

// Bounds of MaxKeys when it depends on the memory, and the estimated memory of one resource.
const (
	minKeys, maxKeys = 10_000, 1_000_000
	keyBytes         = 2 << 10
	keyShare         = 16
)

// Sized returns the configuration with the values that depend on the node's memory, in bytes; 0 means unknown.
func (c Config) Sized(memory int64) Config {
	if c.MaxKeys == -1 {
		c.MaxKeys = int(min(max(memory/keyShare/keyBytes, minKeys), maxKeys))
	}
	return c
}

// Validate reports all problems together.
func (c Config) Validate() error {
	_, err := c.limits()
	return err
}

// limits is a validated Config for the workers, with times in ns.
type limits struct {
	workers, queue, keys, pending, retries int
	ttl, ahead                             int64
	wait                                   time.Duration
	sampleBytes                            int
}

// limits validates the configuration. Limits shared by the workers are divided by their number.
func (c Config) limits() (limits, error) {
	p := check.Fields("Local", c)
	if _, err := parse(c.Operators); err != nil {
		p.Addf("Operators", c.Operators, "%v", err)
	}
	check.Range(p, "MaxKeys", c.MaxKeys, 1, 10_000_000, -1)
	ttl := p.Duration("KeyTTL", c.KeyTTL, 0, 30*24*time.Hour)
	ahead := p.Duration("MaxAhead", c.MaxAhead, 0, 24*time.Hour)
	wait := p.Duration("RetryWait", c.RetryWait, 0, time.Minute)

	n := c.Workers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n = max(n, 1)
	share := func(total int) int { return max(total/n, 1) }
	l := limits{
		workers: n, queue: share(c.QueueTasks), keys: c.MaxKeys, retries: c.Retries,
		ttl: int64(ttl), ahead: int64(ahead), wait: wait, sampleBytes: share(c.SampleMiB << 20),
	}
	if l.keys < 0 {
		l.keys = minKeys
	}
	if c.PendingResults > 0 {
		l.pending = share(c.PendingResults)
	}
	return l, p.Err()
}
