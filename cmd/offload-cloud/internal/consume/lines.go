package consume

import (
	"bytes"
	"encoding/json"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

// Line is a record as people and their tools read it: one JSON object a line.
type Line struct {
	Node       string          `json:"node"`
	Epoch      string          `json:"epoch"`
	Sequence   uint64          `json:"sequence"`
	Event      string          `json:"event"`
	Chunk      int             `json:"chunk"`
	Of         int             `json:"of"`
	Device     string          `json:"device"`
	Profile    string          `json:"profile"`
	Source     string          `json:"source"`
	Resource   string          `json:"resource,omitempty"`
	Class      string          `json:"class"`
	Critical   bool            `json:"critical,omitempty"`
	Origin     int64           `json:"origin"`
	Data       json.RawMessage `json:"data,omitempty"`       // the event, or the frame of one
	DataText   string          `json:"dataText,omitempty"`   // elements of an array
	DataBase64 []byte          `json:"dataBase64,omitempty"` // anything else
}

// NewLine describes a record. The data is written in the most readable way that is exact.
func NewLine(f store.Fresh) *Line {
	t := f.Task
	l := &Line{
		Node: f.Node, Epoch: f.Epoch, Sequence: f.Sequence, Event: t.EventID, Chunk: t.Chunk, Of: t.Of, Device: t.Device,
		Profile: t.Profile, Source: t.Source, Resource: t.Resource, Critical: t.Critical, Origin: t.Origin,
	}
	if t.Class != nil {
		l.Class = t.Class.Name
	}
	switch {
	case t.Encoding == task.JSON && json.Valid(t.Data):
		l.Data = t.Data
	case t.Encoding == task.Text:
		l.DataText = string(t.Data)
	default:
		l.DataBase64 = t.Data
	}
	return l
}

// writeLines writes the new records of one transaction. A record that was stored but not printed when the process died is not
// printed later: the lines are a view, the database is the record.
func (c *Consumer) writeLines(fresh []store.Fresh) error {
	if c.Lines == nil || len(fresh) == 0 {
		return nil
	}
	buffer := &bytes.Buffer{}
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	for _, f := range fresh {
		if err := encoder.Encode(NewLine(f)); err != nil {
			return err
		}
	}
	_, err := c.Lines.Write(buffer.Bytes())
	return err
}
