package local

import (
	"runtime"
	"time"

	"app-offload/functions/check"
)

// Config bounds the local work. The words are those of the configuration file.
type Config struct {
	// Workers is the number of goroutines that run operators; a device always meets the same one. 0 is one for each
	// core. A change needs a restart.
	Workers int `within:"0 256"`
	// QueueTasks is how many tasks may wait for all workers together, shared out evenly. A full queue makes the caller
	// wait. A change needs a restart.
	QueueTasks int `within:"1 1000000"`
	// Operators is the notation for classes that name none. Empty, or "none", computes nothing for them.
	Operators string
	// MaxKeys is how many resources of devices are remembered at once, all workers together, about 2 KiB each. Those beyond it are not
	// processed locally until another was silent for KeyTTL: their tasks go to the cloud and are counted, and the log says once how many
	// there are. -1 takes a 16th of the node's memory, or the container's, for 10,000 to 1,000,000 of them.
	MaxKeys int
	// KeyTTL is after how much silence a resource is forgotten, e.g. "1h". "0s" is never.
	KeyTTL string
	// SampleMiB bounds the memory for the values that percentiles are computed of, all workers together. When it is
	// used up, new windows keep fewer values and their percentiles become estimates. A change needs a restart.
	SampleMiB int `within:"1 65536"`
	// MaxAhead is how far the time of a reading may lie ahead of this node's clock before the time of reception
	// replaces it, e.g. "1m": one wrong clock would otherwise make all later values late.
	MaxAhead string
	// Retries is how often a failed publication is tried again at once. 0 tries once only.
	Retries int `within:"0 100"`
	// RetryWait is the pause before each retry, e.g. "100ms".
	RetryWait string
	// PendingResults is how many results of windows wait, all workers together, for a bus that does not take them; the
	// oldest is dropped and counted beyond that. 0 drops at once.
	PendingResults int `within:"0 1000000"`
}

// DefaultConfig suits a small gateway: at most some 50 MiB of state.
func DefaultConfig() Config {
	return Config{
		Workers: 0, QueueTasks: 4096, Operators: "summary window=60s",
		MaxKeys: -1, KeyTTL: "1h", SampleMiB: 32, MaxAhead: "1m",
		Retries: 2, RetryWait: "100ms", PendingResults: 1024,
	}
}

// The bounds of MaxKeys where it grows with the memory, and what is reckoned with for one.
const (
	minKeys, maxKeys = 10_000, 1_000_000
	keyBytes         = 2 << 10
	keyShare         = 16
)

// Sized fills in what depends on the node's memory, in bytes; 0 is unknown.
func (c Config) Sized(memory int64) Config {
	if c.MaxKeys == -1 {
		c.MaxKeys = int(min(max(memory/keyShare/keyBytes, minKeys), maxKeys))
	}
	return c
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	_, err := c.limits()
	return err
}

// limits is a Config as the workers use it, times in ns.
type limits struct {
	workers, queue, keys, pending, retries int
	ttl, ahead                             int64
	wait                                   time.Duration
	sampleBytes                            int
}

// limits parses the configuration once. What is shared among workers comes out as the share of one.
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
