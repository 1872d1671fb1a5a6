package seal

import (
	"encoding/json"
	"errors"
	"time"
)

// Confirmation is a node's statement that it has dealt with results of its tasks, so that the cloud does not publish them again.
type Confirmation struct {
	ID      string
	Node    string
	Created time.Time
	Results []ConfirmedResult
}

// ConfirmedResult names a result by the id of its message. Refused says why the node did not put it on its MessageBus; "" says that it did,
// or that it had none to put there.
type ConfirmedResult struct {
	ID      string `json:"id"`
	Refused string `json:"refused,omitempty"`
}

type confirmationBody[R []ConfirmedResult | json.RawMessage] struct {
	Node    string `json:"node"`
	Results R      `json:"results"`
}

// SealConfirmation appends the message of a confirmation, to be published to ConfirmTopic(c.Node).
func (s *Sealer) SealConfirmation(dst []byte, c *Confirmation) ([]byte, error) {
	for _, r := range c.Results {
		if !isText(r.ID) {
			return dst, malformedf("confirmation", "the id %q of a result is not printable UTF-8", r.ID)
		}
	}
	return s.state(dst, statement{typeConfirm, c.ID, nodeSource(c.Node), c.Node, c.Created}, confirmationBody[[]ConfirmedResult]{c.Node, c.Results})
}

// OpenConfirmation verifies and reads a node's confirmation.
func (o *Opener) OpenConfirmation(msg []byte) (*Confirmation, error) {
	var body confirmationBody[json.RawMessage]
	e, created, err := o.receive(msg, typeConfirm, sourceNode, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	c := &Confirmation{ID: e.attrs.get("id"), Node: body.Node, Created: created}
	left := o.limits.MaxRecords
	if c.Results, err = readRanges[ConfirmedResult](o, body.Results, &left); err != nil {
		return nil, err
	}
	for i := range c.Results {
		r := &c.Results[i]
		if !isText(r.ID) {
			return nil, malformed("confirmation", errors.New("the id of a result is not printable UTF-8"))
		}
		r.Refused = shorten(r.Refused)
	}
	return c, nil
}
