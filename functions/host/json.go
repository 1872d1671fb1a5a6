package host

import (
	"encoding/json"
	"math"
)

// plain is State without its methods, which encoding/json would call again.
type plain State

// wire is a State in JSON, which has no NaN: a missing sensor is null, and null becomes NaN again.
type wire struct {
	*plain
	Temperature *float64 `json:"temperature"`
	Watts       *float64 `json:"watts"`
	Battery     *float64 `json:"battery"`
}

// MarshalJSON writes null for NaN.
func (s State) MarshalJSON() ([]byte, error) {
	p := plain(s)
	return json.Marshal(wire{&p, known(s.Temperature), known(s.Watts), known(s.Battery)})
}

// UnmarshalJSON reads the output of MarshalJSON, so that recorded states can be replayed.
func (s *State) UnmarshalJSON(b []byte) error {
	w := wire{plain: (*plain)(s)}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	s.Temperature, s.Watts, s.Battery = orNaN(w.Temperature), orNaN(w.Watts), orNaN(w.Battery)
	return nil
}

func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
