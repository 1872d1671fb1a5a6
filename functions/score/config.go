package score

import (
	"math"
	"time"

	"app-offload/functions/check"
)

// maxCorrection bounds CorrectionLimit.
const maxCorrection = 1e4

// Config calibrates the prediction. All rates are initial means: corrections per class follow the measurements.
type Config struct {
	// EdgeMcycles is the compute rate of this node when idle, Mcycle/s. The CPU share of other processes is subtracted.
	EdgeMcycles float64 `within:"1 1e9"`
	// CloudMcycles is the rate at which the cloud computes one task, Mcycle/s. The cloud is assumed to be never busy.
	CloudMcycles float64 `within:"1 1e9"`
	// MinEdgeShare is the share of EdgeMcycles, 0.001–1, that a task gets on a node that other processes keep fully busy. A fair scheduler gives it half
	// if one other thread per core competes.
	MinEdgeShare float64 `within:"0.001 1"`
	// McyclesPerKB is the work per KB (1,024 bytes) of data and per point of complexity, in Mcycles: at 0.004 a task of 200 KB and complexity 50 takes
	// 40 Mcycles, the cost of its summary. A model takes more.
	McyclesPerKB float64

	// LinkMbit is the goodput in Mbit/s assumed until the exporter has measured it.
	LinkMbit float64 `within:"0.001 1e6"`
	// RTT is the round-trip time assumed until the exporter has measured it, a Go duration up to "1m".
	RTT string `within:"0s 1m"`
	// Overhead is the time that the cloud adds to every task besides computing: queueing, opening, storing. A Go duration up to "1m".
	Overhead string `within:"0s 1m"`
	// HeaderBytes is the number of bytes that one task adds to a message besides its data.
	HeaderBytes int `within:"0 1048576"`
	// WireShare is the number of bytes on the wire per byte of data, 0.01–4: below 1 where messages are compressed, about 1.4 for binaries in the
	// readable form.
	WireShare float64 `within:"0.01 4"`
	// BacklogAhead is the share of the spool's backlog, 0–1, that leaves before a new task: 1 where the link is first in, first out; less where new data
	// goes first. Bytes in flight always leave before it.
	BacklogAhead float64 `within:"0 1"`

	// EdgeJoules is the energy of local computing, J/Mcycle.
	EdgeJoules float64 `within:"0 1000"`
	// RadioJoules is the energy of sending, J per byte on the wire, sealing included.
	RadioJoules float64 `within:"0 1000"`

	// MoneyPerMB is the price of a MB (10⁶ bytes) on the uplink by hour of the week: a price, then "days hours price" for exceptions, separated by
	// semicolons; the last match applies: "0.02; Mo-Fr 08-18 0.1; Sa,Su 22-06 0.01". Hours are whole, from the first up to the second; 22-06 is the
	// first six and the last two hours of the same day. Any currency will do; Policy.CostPrice weighs it. "" is free.
	MoneyPerMB string
	// MoneyZone is the time zone of the hours in MoneyPerMB: "UTC", "Local" for this machine's, or a name such as "Europe/Berlin".
	MoneyZone string

	// Credits counts the prices published by offload-cloud credits as money, in units of the same currency: a task that leaves costs the cloud's price
	// for its bytes and its work, and the credits that the node would earn by computing it. false ignores them.
	Credits bool

	// Smoothing is the weight, 0–1, of the newest measurement in a correction; 0 disables corrections.
	Smoothing float64 `within:"0 1"`
	// CorrectionLimit is the largest factor by which measurements may correct a prediction, in both directions, 1–10000. 1 disables corrections.
	CorrectionLimit float64
}

// DefaultConfig is a small x86 gateway behind an 8 Mbit/s uplink.
func DefaultConfig() Config {
	return Config{
		EdgeMcycles: 3000, CloudMcycles: 24000, MinEdgeShare: 0.5, McyclesPerKB: 0.004,
		LinkMbit: 8, RTT: "50ms", Overhead: "20ms", HeaderBytes: 400, WireShare: 1, BacklogAhead: 1,
		EdgeJoules: 1.2e-3, RadioJoules: 8e-6, MoneyZone: "UTC",
		Smoothing: 0.05, CorrectionLimit: 1000,
	}
}

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields("Score", c)
	check.Range(p, "McyclesPerKB", c.McyclesPerKB, math.SmallestNonzeroFloat64, 1e6)
	if _, err := parseTariff(c.MoneyPerMB); err != nil {
		p.Addf("MoneyPerMB", c.MoneyPerMB, "%v", err)
	}
	if _, err := time.LoadLocation(c.MoneyZone); err != nil {
		p.Addf("MoneyZone", c.MoneyZone, "is unknown; write UTC, Local, or a name of its time zone database, such as Europe/Berlin")
	}
	check.Range(p, "CorrectionLimit", c.CorrectionLimit, 1, maxCorrection)
	return p.Err()
}
