package score

import (
	"encoding/json"
	"math"
)

// Estimate is the predicted cost of both targets for one task. It never contains NaN; an unusable target has +Inf time.
type Estimate struct {
	LocalTime   float64 `json:"localTime"`       // s from now to the local result, waiting included
	CloudTime   float64 `json:"cloudTime"`       // s from now to the cloud's result, waiting, transfer and round trip included
	LocalEnergy float64 `json:"localEnergy"`     // J, estimated
	CloudEnergy float64 `json:"cloudEnergy"`     // J, estimated, spent on the node: radio and sealing
	Cycles      float64 `json:"cycles"`          // Mcycles of the local work
	Bytes       float64 `json:"bytes"`           // expected bytes on the wire
	Money       float64 `json:"money,omitempty"` // their price at this hour, in the currency of Score.MoneyPerMB
}

// plain is Estimate without its methods, which encoding/json would call again.
type plain Estimate

// wire is an Estimate in JSON, which has no infinity: the time of an unusable target is null.
type wire struct {
	*plain
	LocalTime *float64 `json:"localTime"`
	CloudTime *float64 `json:"cloudTime"`
}

// MarshalJSON writes null for the time of an unusable target.
func (e Estimate) MarshalJSON() ([]byte, error) {
	p := plain(e)
	return json.Marshal(wire{&p, usable(e.LocalTime), usable(e.CloudTime)})
}

// UnmarshalJSON reads the output of MarshalJSON.
func (e *Estimate) UnmarshalJSON(b []byte) error {
	w := wire{plain: (*plain)(e)}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	e.LocalTime, e.CloudTime = orNever(w.LocalTime), orNever(w.CloudTime)
	return nil
}

func usable(seconds float64) *float64 {
	if math.IsInf(seconds, 0) || math.IsNaN(seconds) {
		return nil
	}
	return &seconds
}

func orNever(seconds *float64) float64 {
	if seconds == nil {
		return math.Inf(1)
	}
	return *seconds
}
