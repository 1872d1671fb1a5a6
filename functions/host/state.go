package host

// State is the node at one moment. It is a value: copy it freely, it never changes.
type State struct {
	Time        int64   `json:"time"`        // ns since the Unix epoch; for a decision a stamp of the clock (functions/clock) that tasks are received by
	CPU         float64 `json:"cpu"`         // busy share of all cores, percent
	OwnCPU      float64 `json:"ownCpu"`      // the part of CPU that this process is, percent of all cores; 0 where unknown
	Memory      float64 `json:"memory"`      // used share, percent
	MemoryStall float64 `json:"memoryStall"` // share of the last 10 s in which a task of the node waited for memory, percent; 0 where the kernel does not say
	Temperature float64 `json:"temperature"` // °C of the hottest sensor, NaN without one
	Cores       int     `json:"cores"`
	MHz         float64 `json:"mhz"`   // current mean frequency, 0 where unknown
	Watts       float64 `json:"watts"` // mean package power since the last sample, NaN where unknown
	OnBattery   bool    `json:"onBattery"`
	Battery     float64 `json:"battery"` // percent, NaN without a battery

	QueueTasks  int     `json:"queueTasks"`  // tasks waiting for a local worker
	QueueCycles float64 `json:"queueCycles"` // predicted work before one more of them, Mcycles: a worker's share of all

	// The pool of models is another queue. In the state of a decision about a task for a model, QueueTasks and QueueCycles are those of the pool.
	ModelTasks   int     `json:"modelTasks,omitempty"`   // tasks waiting for a model
	ModelSeconds float64 `json:"modelSeconds,omitempty"` // until the pool of models is free, predicted

	ParkedCycles float64 `json:"parkedCycles,omitempty"` // predicted work of the parked tasks, which are in neither queue, Mcycles
	ParkedBytes  float64 `json:"parkedBytes,omitempty"`  // size of their data, bytes

	Link Link `json:"link"`
}

// CoreWatts is the measured power of one busy core: the package's power shared among the cores that are busy, at least one,
// so that an idle node's own needs do not fall on a single task. 0 where power is not measured.
func (s *State) CoreWatts() float64 {
	if !(s.Watts > 0) { // also NaN
		return 0
	}
	return s.Watts / max(s.CPU/100*float64(s.Cores), 1)
}

// Link is what the exporter measured of the way to the cloud.
type Link struct {
	Up            bool    `json:"up"`
	Goodput       float64 `json:"goodput"`         // acknowledged bytes/s, EWMA; 0 before the first measurement
	AtLeast       bool    `json:"atLeast"`         // the link carries that much or more: all messages so far were too small to measure how much
	Goodput10     float64 `json:"goodput10"`       // a tenth of the link's latest busy minute was slower, bytes/s; 0 before the first measurement
	Goodput50     float64 `json:"goodput50"`       // half of it was slower
	RTT           float64 `json:"rtt"`             // seconds from publish to PUBACK of a small message, EWMA; 0 before the first measurement
	RTT95         float64 `json:"rtt95"`           // 95th percentile of the same, seconds
	BacklogTasks  int64   `json:"backlogTasks"`    // tasks in the spool that stand before the next one: without those that wait undecided
	BacklogBytes  int64   `json:"backlogBytes"`    // their bytes
	BacklogShare  float64 `json:"backlogShare"`    // of the spool's quota, 0–1
	InflightBytes int64   `json:"inflightBytes"`   // published, not yet acknowledged; in a decision's state less the bytes that have presumably left since, by the goodput
	Price         float64 `json:"price,omitempty"` // money that a MB (10⁶ bytes) costs at this hour, 0 for none
	Growth        float64 `json:"growth"`          // message bytes for each byte of records; 0 before the first measurement
}

// BytesAhead is what the link has to carry before a fresh task, in bytes on the wire: the share of the backlog that leaves before
// it, which weighs unmeasured for each byte until its growth is measured, and what is under way.
func (l *Link) BytesAhead(share, unmeasured float64) float64 {
	growth := l.Growth
	if growth == 0 {
		growth = unmeasured
	}
	return float64(max(l.BacklogBytes, 0))*growth*share + float64(max(l.InflightBytes, 0))
}

// Source is where decisions get the node's state from: the Sampler, or states that a test gives.
type Source interface {
	// State is the latest state. It is never nil and never changes; the next one is another value.
	State() *State
}

var _ Source = (*Sampler)(nil)
