package feed

import (
	"encoding/json"
	"io"
)

// Truth is what the feed knows of an event and no receiver of it is told: it never leaves with the event.
type Truth struct {
	Event    string  `json:"event"` // its id
	Device   string  `json:"device"`
	Label    string  `json:"label"`            // one of PartLabels or BearingStates
	Severity float64 `json:"severity"`         // of the defect or fault, 0 none to 1
	Shadow   float64 `json:"shadow,omitempty"` // of a picture: share of light that it takes
	Blur     float64 `json:"blur,omitempty"`   // of a picture: its length as a share of the height
}

// WriteTruth puts the truth of one message on a line of its own; messages without one leave no line.
func WriteTruth(w io.Writer, m Message) error {
	if m.Event.Truth == nil {
		return nil
	}
	return json.NewEncoder(w).Encode(m.Event.Truth)
}
