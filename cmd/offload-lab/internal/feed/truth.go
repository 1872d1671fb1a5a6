package feed

import (
	"encoding/json"
	"io"
)

// Truth is the ground truth of an event, unknown to its receivers: it is never published with the event.
type Truth struct {
	Event    string  `json:"event"` // its id
	Device   string  `json:"device"`
	Label    string  `json:"label"`            // one of PartLabels or BearingStates
	Severity float64 `json:"severity"`         // of the defect or fault, 0 (absent) to 1
	Shadow   float64 `json:"shadow,omitempty"` // of a picture: share of light taken
	Blur     float64 `json:"blur,omitempty"`   // of a picture: its length as a share of the height
}

// WriteTruth writes the truth of one message as a line, or nothing if it has no truth.
func WriteTruth(w io.Writer, m Message) error {
	if m.Event.Truth == nil {
		return nil
	}
	return json.NewEncoder(w).Encode(m.Event.Truth)
}
