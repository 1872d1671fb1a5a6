package host

// State is the node at one moment. It is a value that may be copied.
type State struct {
	Time        int64   `json:"time"`        // ns since the Unix epoch; in a decision a stamp of the clock (functions/clock) that stamps received tasks
	CPU         float64 `json:"cpu"`         // busy share of all cores, percent
	OwnCPU      float64 `json:"ownCpu"`      // the share of CPU that this process uses, percent of all cores; 0 if unknown
	Memory      float64 `json:"memory"`      // used share, percent
	MemoryStall float64 `json:"memoryStall"` // share of the last 10 s in which a task of the node waited for memory, percent; 0 if the kernel does not report it
	Temperature float64 `json:"temperature"` // °C of the hottest sensor, NaN without one
	Cores       int     `json:"cores"`
	MHz         float64 `json:"mhz"`   // current mean frequency, 0 if unknown
	Watts       float64 `json:"watts"` // mean package power since the last sample, NaN if unknown
	OnBattery   bool    `json:"onBattery"`
	Battery     float64 `json:"battery"` // percent, NaN without a battery

	QueueTasks  int     `json:"queueTasks"`  // tasks waiting for a local worker
	QueueCycles float64 `json:"queueCycles"` // predicted work ahead of a further task, Mcycles: one worker's share of all work

	// The pool of models is another queue. In the state of a decision about a task for a model, QueueTasks and QueueCycles are those of the pool.
	ModelTasks   int     `json:"modelTasks,omitempty"`   // tasks waiting for a model
	ModelSeconds float64 `json:"modelSeconds,omitempty"` // until the pool of models is free, predicted

	ParkedCycles float64 `json:"parkedCycles,omitempty"` // predicted work of the parked tasks, which are in neither queue, Mcycles
	ParkedBytes  float64 `json:"parkedBytes,omitempty"`  // size of their data, bytes

	Link Link `json:"link"`
}

// CoreWatts is the measured power of one busy core: the package's power divided by the number of busy cores, at least one, so that an idle node's own
// consumption is not charged to a single task. It is 0 if power is not measured.
func (s *State) CoreWatts() float64 {
	if !(s.Watts > 0) { // also NaN
		return 0
	}
	return s.Watts / max(s.CPU/100*float64(s.Cores), 1)
}

// Link is the exporter's measurement of the link to the cloud.
type Link struct {
	Up            bool    `json:"up"`
	Goodput       float64 `json:"goodput"`         // acknowledged bytes/s, EWMA; 0 before the first measurement
	AtLeast       bool    `json:"atLeast"`         // the goodput is a lower bound: all messages so far were too small to measure it
	Goodput10     float64 `json:"goodput10"`       // a tenth of the link's latest busy minute was slower, bytes/s; 0 before the first measurement
	Goodput50     float64 `json:"goodput50"`       // half of it was slower
	RTT           float64 `json:"rtt"`             // seconds from publish to PUBACK of a small message, EWMA; 0 before the first measurement
	RTT95         float64 `json:"rtt95"`           // 95th percentile of the same, seconds
	BacklogTasks  int64   `json:"backlogTasks"`    // tasks in the spool ahead of the next one, without the parked ones
	BacklogBytes  int64   `json:"backlogBytes"`    // their bytes
	BacklogShare  float64 `json:"backlogShare"`    // of the spool's quota, 0–1
	InflightBytes int64   `json:"inflightBytes"`   // published, not yet acknowledged; in a decision's state less the bytes presumably sent since, by the goodput
	Price         float64 `json:"price,omitempty"` // price of a MB (10⁶ bytes) at this hour, 0 is free
	Growth        float64 `json:"growth"`          // message bytes per byte of records; 0 before the first measurement
}

// BytesAhead returns the bytes on the wire that the link carries before a new task: the bytes in flight, and the given share of the backlog, times
// its growth or, until that is measured, unmeasured.
func (l *Link) BytesAhead(share, unmeasured float64) float64 {
	growth := l.Growth
	if growth == 0 {
		growth = unmeasured
	}
	return float64(max(l.BacklogBytes, 0))*growth*share + float64(max(l.InflightBytes, 0))
}

// Source provides the node's state to decisions: the Sampler, or the states of a test.
type Source interface {
	// State returns the latest state. It is never nil and never changes; the next one is another value.
	State() *State
}

var _ Source = (*Sampler)(nil)
