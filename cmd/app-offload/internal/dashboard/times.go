package dashboard

import (
	"math"
	"math/rand/v2"
	"time"

	"app-offload/functions/decision"
)

// recently is how far back completion times are averaged.
const recently = 10 * time.Second

// looks is the number of decisions looked at for one average, whatever their rate.
const looks = 256

// completion is the mean time that tasks decided lately were to take, and took; NaN where there are none.
type completion struct{ localPredicted, localActual, cloudPredicted, cloudActual float64 }

var nothing = completion{math.NaN(), math.NaN(), math.NaN(), math.NaN()}

// sampler looks at decisions spread evenly over those of the last seconds. It belongs to one goroutine.
type sampler struct {
	marks []mark // the newest decision at each of the last samples
}

type mark struct {
	at time.Time
	id uint64
}

// sample averages over decisions whose outcome is known by now.
func (s *sampler) sample(source Source, now time.Time) completion {
	var local, cloud means
	newest := uint64(0)
	if latest := source.Decisions(1, nil); len(latest) > 0 {
		newest = latest[0].ID
	}
	oldest := s.oldest(now, newest)
	step := max((newest-oldest)/looks, 1)
	for from := oldest; from < newest; from += step {
		// Anywhere within the stride: devices take turns, and an even step would see the same ones over and over.
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

// oldest notes where the decisions are now, and says where they were at the beginning of the window.
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

// means are those of predicted and actual times of the same decisions, so that they can be compared.
type means struct {
	predicted, actual float64
	n                 int
}

func (m *means) add(predicted, actual float64) {
	if math.IsInf(predicted, 0) || math.IsNaN(predicted) {
		return // that way could not be used when it was predicted
	}
	m.predicted, m.actual, m.n = m.predicted+predicted, m.actual+actual, m.n+1
}

func (m *means) of() (predicted, actual float64) {
	if m.n == 0 {
		return math.NaN(), math.NaN()
	}
	return m.predicted / float64(m.n), m.actual / float64(m.n)
}
