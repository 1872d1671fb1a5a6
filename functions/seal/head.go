package seal

import (
	"encoding/json"
	"math"
	"strconv"
)

// appendHead appends the record as json.Marshal writes it, without its closing brace and without reflection, which took most of the
// time of the readable form: see FuzzHeadIsWhatMarshalWrites.
func (r *record) appendHead(dst []byte) ([]byte, error) {
	h := head{dst: dst}
	h.dst = strconv.AppendUint(append(h.dst, `{"sequence":`...), r.Sequence, 10)
	h.text(`,"eventId":`, r.EventID)
	h.text(`,"device":`, r.Device)
	h.text(`,"profile":`, r.Profile)
	h.text(`,"source":`, r.Source)
	h.textIfAny(`,"resource":`, r.Resource)
	h.textIfAny(`,"class":`, r.Class)
	h.whole(`,"priority":`, int64(r.Priority))
	h.whole(`,"origin":`, r.Origin)
	h.whole(`,"received":`, r.Received)
	h.whole(`,"chunk":`, int64(r.Chunk))
	h.whole(`,"of":`, int64(r.Of))
	if r.Critical {
		h.dst = append(h.dst, `,"critical":true`...)
	}
	h.textIfAny(`,"valueType":`, r.ValueType)
	h.wholeIfAny(`,"offset":`, int64(r.Offset))
	h.wholeIfAny(`,"count":`, int64(r.Count))
	h.wholeIfAny(`,"hole":`, int64(r.Hole))
	if len(r.Holes) > 0 {
		h.other(`,"holes":`, r.Holes)
	}
	h.fraction(`,"complexity":`, r.Complexity)
	h.wholeIfAny(`,"deadlineMs":`, r.DeadlineMs)
	h.fraction(`,"score":`, r.Score)
	h.textIfAny(`,"policy":`, r.Policy)
	h.textIfAny(`,"correlationId":`, r.CorrelationID)
	if int(r.Encoding) < len(encodingNames) {
		h.text(`,"encoding":`, encodingNames[r.Encoding])
	} else {
		h.other(`,"encoding":`, r.Encoding)
	}
	return h.dst, h.err
}

// head is a record in the making, with the first error.
type head struct {
	dst []byte
	err error
}

// other leaves a value to json.Marshal.
func (h *head) other(name string, value any) {
	text, err := json.Marshal(value)
	if h.err == nil {
		h.err = err
	}
	h.dst = append(append(h.dst, name...), text...)
}

func (h *head) text(name, value string) {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' { // what json.Marshal escapes, or may
			h.other(name, value)
			return
		}
	}
	h.dst = append(append(append(append(h.dst, name...), '"'), value...), '"')
}

func (h *head) textIfAny(name, value string) {
	if value != "" {
		h.text(name, value)
	}
}

func (h *head) whole(name string, value int64) {
	h.dst = strconv.AppendInt(append(h.dst, name...), value, 10)
}

func (h *head) wholeIfAny(name string, value int64) {
	if value != 0 {
		h.whole(name, value)
	}
}

// fraction writes a number that needs no exponent, which json.Marshal gives to those below 1e-6 and from 1e21 on.
func (h *head) fraction(name string, value float32) {
	switch size := math.Abs(float64(value)); {
	case value == 0:
	case size >= 1e-5 && size < 1e20:
		h.dst = strconv.AppendFloat(append(h.dst, name...), float64(value), 'f', -1, 32)
	default:
		h.other(name, value)
	}
}
