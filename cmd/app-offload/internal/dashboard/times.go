package dashboard

import (
	"math"
	"math/rand/v2"
	"time"

	"app-offload/functions/decision"
)

// recently is the window over which completion times are averaged.
const recently = 10 * time.Second

// looks is the number of decisions sampled for one average, at any rate.
const looks = 256

// completion holds the mean predicted and actual times of recently decided tasks; NaN if there are none.
type completion struct{ localPredicted, localActual, cloudPredicted, cloudActual float64 }

var nothing = completion{math.NaN(), math.NaN(), math.NaN(), math.NaN()}

// sampler samples decisions spread evenly over the window. It belongs to one goroutine.
type sampler struct {
	marks []mark // the newest decision at each recent sample
}

type mark struct {
	at time.Time
	id uint64
}

// sample averages over decisions whose outcome is known.
func (s *sampler) sample(source Source, now time.Time) completion {
	var local, cloud means
	newest := uint64(0)
	if latest := source.Decisions(1, nil); len(latest) > 0 {
		newest = latest[0].ID
	}
	oldest := s.oldest(now, newest)
	step := max((newest-oldest)/looks, 1)
	for from := oldest; from < newest; from += step {
		// A random place within the stride: devices take turns, and an even step would sample the same ones every time.
		e, ok := source.Decision(from + 1 + rand.Uint64N(step))
		if !ok || !e.Outcome.Known || e.Outcome.Failed {
			continue
		}
		if e.Decision.Target == decision.Local {
			local.add(e.Estimate.LocalTime, e.Outcome.Time)
		} else {
			cloud.add(e.Estimate.CloudTime, e.Outcome.Time)
		}
	}
	var c completion
	c.localPredicted, c.localActual = local.of()
	c.cloudPredicted, c.cloudActual = cloud.of()
	return c
}

// oldest records the newest decision, and returns the one at the beginning of the window.
func (s *sampler) oldest(now time.Time, newest uint64) uint64 {
	s.marks = append(s.marks, mark{now, newest})
	for len(s.marks) > 1 && now.Sub(s.marks[0].at) > recently {
		s.marks = s.marks[1:]
	}
	if first := s.marks[0].id; first < newest && len(s.marks) > 1 {
		return first
	}
	return newest
}

// means are the sums of predicted and actual times of the same decisions, so that they are comparable.
type means struct {
	predicted, actual float64
	n                 int
}

func (m *means) add(predicted, actual float64) {
	if math.IsInf(predicted, 0) || math.IsNaN(predicted) {
		return // the target could not be used at the time of the prediction
	}
	m.predicted, m.actual, m.n = m.predicted+predicted, m.actual+actual, m.n+1
}

func (m *means) of() (predicted, actual float64) {
	if m.n == 0 {
		return math.NaN(), math.NaN()
	}
	return m.predicted / float64(m.n), m.actual / float64(m.n)
}
