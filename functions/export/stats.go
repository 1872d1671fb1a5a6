package export

import (
	"maps"
	"sync"

	"app-offload/functions/seal"
)

// Stats counts what the exporter did since its start, and what is under way now.
type Stats struct {
	Published   uint64            `json:"published"`   // batches handed to the broker, repetitions included
	Acked       uint64            `json:"acked"`       // batches the broker acknowledged
	Receipted   uint64            `json:"receipted"`   // records confirmed, by receipt or, where so configured, by PUBACK
	Resent      uint64            `json:"resent"`      // batches published again for want of a receipt or because of a gap
	Connections uint64            `json:"connections"` // made; all after the first are reconnections
	SetAside    uint64            `json:"setAside"`    // records dropped, by reason counted in the spool
	Epochs      uint64            `json:"epochs"`      // new epochs begun because another spool uses the same one
	Repeats     uint64            `json:"repeats"`     // repetitions of what is not receipted, asked for by a consumer's announcement
	Gone        uint64            `json:"gone"`        // records the consumer was told will never come
	Results     uint64            `json:"results"`     // results received
	Confirmed   uint64            `json:"confirmed"`   // results that were confirmed to the cloud
	Bytes       uint64            `json:"bytes"`       // message bytes acknowledged
	Errors      map[string]uint64 `json:"errors"`      // by kind

	Inflight       int    `json:"inflight"`      // batches under way
	InflightBytes  int    `json:"inflightBytes"` // their record bytes
	Unacked        int    `json:"unacked"`       // of those batches, not acknowledged
	Connected      bool   `json:"connected"`
	Problem        string `json:"problem,omitempty"` // why there is no connection, for people
	ReceiptsSilent bool   `json:"receiptsSilent"`    // the broker acknowledges, but no receipts come
	Silence        string `json:"silence,omitempty"` // what to do about that, for people

	Isolated int                 `json:"isolated"` // records that were refused alone and are kept out of the way of others
	Holds    []Hold              `json:"holds"`    // why records do not leave although the link is up
	Consumer seal.ConsumerLimits `json:"consumer"` // what the consumer says that it takes
}

// stats is a Stats with a lock. It is never held while anything else is called.
type stats struct {
	mu sync.Mutex
	s  Stats
}

func newStats() *stats { return &stats{s: Stats{Errors: map[string]uint64{}}} }

func (s *stats) do(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.s)
}

func (s *stats) failed(kind string) { s.do(func(s *Stats) { s.Errors[kind]++ }) }

func (s *stats) load() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.s
	c.Errors, c.Holds = maps.Clone(c.Errors), append([]Hold{}, c.Holds...)
	return c
}

// complain counts a failure and logs it, a repeated one only once.
func (x *Exporter) complain(kind string, err error) {
	x.stats.failed(kind)
	if x.told.Changed(kind, err) {
		x.deps.Log.Warnf("export failed, retrying: error=%q", err)
		return
	}
	x.deps.Log.Debugf("export still failing: error=%q", err)
}
