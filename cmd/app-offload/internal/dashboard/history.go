package dashboard

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"app-offload/functions/status"
)

// point is the state over one interval. Unknown values are NaN.
type point [numSeries]float64

// The series of a point, in the order of seriesNames.
const (
	atTime         = iota // s since the Unix epoch
	toLocal               // tasks a second
	toCloud               // tasks a second
	dropped               // tasks a second
	events                // a second
	cpu                   // percent of all cores
	ownCPU                // percent of all cores
	memory                // percent
	sent                  // acknowledged bytes a second
	goodput               // bytes a second that the link could carry
	rtt                   // s
	linkUp                // 1 or 0
	spoolBytes            //
	spoolTasks            //
	queue                 // tasks waiting for a local worker
	taskPower             // W spent on tasks
	nodePower             // W of the whole node
	localPredicted        // s, means over recent decisions
	localActual
	cloudPredicted
	cloudActual
	numSeries
)

var seriesNames = [numSeries]string{
	"t", "local", "cloud", "dropped", "events", "cpu", "own", "memory", "sent", "goodput", "rtt", "up", "spoolBytes", "spoolTasks",
	"queue", "taskPower", "nodePower", "localPredicted", "localActual", "cloudPredicted", "cloudActual",
}

// pointBetween computes rates from the difference of two statuses.
func pointBetween(from time.Time, was *status.Status, to time.Time, is *status.Status, c completion) point {
	seconds := math.Max(to.Sub(from).Seconds(), 1e-3)
	rate := func(before, now float64) float64 { return math.Max(now-before, 0) / seconds }
	away := func(s *status.Status) float64 { return float64(s.Counts.Accepted - s.Counts.Local) }
	up := 0.0
	if is.Link.Up {
		up = 1
	}
	return point{
		atTime:     float64(to.UnixMilli()) / 1000,
		toLocal:    rate(float64(was.Counts.Local), float64(is.Counts.Local)),
		toCloud:    rate(away(was), away(is)),
		dropped:    rate(float64(status.Sum(was.Counts.Dropped)), float64(status.Sum(is.Counts.Dropped))),
		events:     rate(float64(was.Events.Received), float64(is.Events.Received)),
		cpu:        is.Node.CPU,
		ownCPU:     is.Node.OwnCPU,
		memory:     is.Node.Memory,
		sent:       rate(float64(was.Export.Bytes), float64(is.Export.Bytes)),
		goodput:    measured(is.Link.Goodput),
		rtt:        measured(is.Link.RTT),
		linkUp:     up,
		spoolBytes: float64(is.Spool.Bytes),
		spoolTasks: float64(is.Spool.Tasks),
		queue:      float64(is.Node.QueueTasks),
		taskPower:  rate(was.Policies.Joules, is.Policies.Joules),
		nodePower:  is.Node.Watts,

		localPredicted: c.localPredicted, localActual: c.localActual,
		cloudPredicted: c.cloudPredicted, cloudActual: c.cloudActual,
	}
}

// measured returns NaN for 0, which the exporter reports before the first measurement.
func measured(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// history is a ring of points. Its zero value is empty.
type history struct {
	points [Points]point
	count  uint64 // points ever added; the latest has this number
}

func (h *history) add(p point) {
	h.points[h.count%Points] = p
	h.count++
}

// since returns the points after the given number that are still kept, oldest first. A number above the count comes from an earlier process; then all
// points are returned.
func (h *history) since(number uint64) columns {
	if number > h.count {
		number = 0
	}
	oldest := uint64(0)
	if h.count > Points {
		oldest = h.count - Points
	}
	c := columns{First: max(number, oldest) + 1}
	for i := max(number, oldest); i < h.count; i++ {
		for s, v := range h.points[i%Points] {
			c.series[s] = append(c.series[s], v)
		}
	}
	return c
}

// columns are points by series, a fraction of the size of points with named fields.
type columns struct {
	First  uint64 // number of the first point
	series [numSeries][]float64
}

// MarshalJSON writes four significant digits, times in tenths of a second, and null for unknown values.
func (c columns) MarshalJSON() ([]byte, error) {
	b := strconv.AppendUint([]byte(`{"first":`), c.First, 10)
	for s, values := range c.series {
		b = append(b, `,"`+seriesNames[s]+`":[`...)
		for i, v := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendNumber(b, s, v)
		}
		b = append(b, ']')
	}
	return append(b, '}'), nil
}

func appendNumber(b []byte, series int, v float64) []byte {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return append(b, "null"...)
	case series == atTime:
		return strconv.AppendFloat(b, v, 'f', 1, 64)
	case v == 0:
		return append(b, '0')
	case math.Abs(v) >= 1e3:
		return strconv.AppendFloat(b, math.Round(v), 'f', 0, 64)
	}
	return strconv.AppendFloat(b, v, 'g', 4, 64)
}

var _ json.Marshaler = columns{}
