package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"app-offload/functions/task"
)

// record is one task in the json form: its metadata, then its data in the most readable exact form.
type record struct {
	Sequence   uint64  `json:"sequence"`
	EventID    string  `json:"eventId"`
	Device     string  `json:"device"`
	Profile    string  `json:"profile"`
	Source     string  `json:"source"`
	Resource   string  `json:"resource,omitempty"`
	Class      string  `json:"class,omitempty"`
	Priority   int     `json:"priority"`
	Origin     int64   `json:"origin"`   // ns since the Unix epoch
	Received   int64   `json:"received"` // ns since the Unix epoch
	Chunk      int     `json:"chunk"`
	Of         int     `json:"of"`
	Critical   bool    `json:"critical,omitempty"`
	ValueType  string  `json:"valueType,omitempty"`
	Offset     int     `json:"offset,omitempty"`
	Count      int     `json:"count,omitempty"`
	Hole       int     `json:"hole,omitempty"`
	Holes      []hole  `json:"holes,omitempty"`
	Complexity float32 `json:"complexity,omitempty"`
	DeadlineMs int64   `json:"deadlineMs,omitempty"`
	Score      float32 `json:"score,omitempty"`
	Policy     string  `json:"policy,omitempty"`

	CorrelationID string `json:"correlationId,omitempty"`

	Encoding encoding `json:"encoding"`
}

// content is the data of a record, in exactly one of three forms.
type content struct {
	event  json.RawMessage // a JSON object, verbatim, or a CBOR event as JSON
	text   *string         // UTF-8
	base64 *[]byte         // any other data
}

type hole struct {
	Resource string   `json:"resource"`
	At       int      `json:"at"`
	Length   int      `json:"length"`
	Encoding encoding `json:"encoding"`
}

// encoding is a task.Encoding with a name in JSON.
type encoding task.Encoding

var encodingNames = [...]string{task.JSON: "json", task.CBOR: "cbor", task.Text: "text", task.Binary: "binary", task.Raw: "raw"}

func (e encoding) MarshalText() ([]byte, error) {
	if int(e) >= len(encodingNames) {
		return nil, fmt.Errorf("unknown encoding %d", e)
	}
	return []byte(encodingNames[e]), nil
}

func (e *encoding) UnmarshalText(name []byte) error {
	for i := range encodingNames {
		if encodingNames[i] == string(name) {
			*e = encoding(i)
			return nil
		}
	}
	return fmt.Errorf("unknown encoding %q", name)
}

// recordOf returns the record of a task.
func recordOf(seq uint64, t *task.Task) record {
	r := record{
		Sequence: seq, EventID: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Resource: t.Resource,
		Origin: t.Origin, Received: t.Received, Chunk: t.Chunk, Of: t.Of, Critical: t.Critical, ValueType: t.Type.String(),
		Offset: t.Offset, Count: t.Count, Hole: t.Hole, Complexity: float32(t.Complexity),
		DeadlineMs: t.Deadline.Milliseconds(), Score: float32(t.Score), Policy: t.Policy, Encoding: encoding(t.Encoding),
		CorrelationID: t.CorrelationID,
	}
	if t.Class != nil {
		r.Class, r.Priority = t.Class.Name, t.Class.Priority
	}
	for _, h := range t.Holes {
		r.Holes = append(r.Holes, hole{h.Resource, h.At, h.Length, encoding(h.Encoding)})
	}
	return r
}

// task reverses recordOf.
func (r *record) task(data []byte) (*task.Task, error) {
	t := &task.Task{
		EventID: r.EventID, Device: r.Device, Profile: r.Profile, Source: r.Source, Resource: r.Resource,
		Origin: r.Origin, Received: r.Received, Chunk: r.Chunk, Of: r.Of, Critical: r.Critical,
		Class:    &task.Class{Name: r.Class, Priority: r.Priority},
		Encoding: task.Encoding(r.Encoding), Data: data, Offset: r.Offset, Count: r.Count, Hole: r.Hole,
		Complexity: float64(r.Complexity), Deadline: time.Duration(r.DeadlineMs) * time.Millisecond,
		Score: float64(r.Score), Policy: r.Policy, CorrelationID: r.CorrelationID,
	}
	if r.ValueType != "" {
		var ok bool
		if t.Type, ok = task.ParseType([]byte(r.ValueType)); !ok {
			return nil, malformedf("record", "unknown value type %q", r.ValueType)
		}
	}
	for _, h := range r.Holes {
		t.Holes = append(t.Holes, task.Hole{Resource: h.Resource, At: h.At, Length: h.Length, Encoding: task.Encoding(h.Encoding)})
	}
	return t, nil
}

// appendJSON appends the batch as {"node":…,"epoch":…,"records":[…]}.
func (b *Batch) appendJSON(dst []byte) ([]byte, error) {
	head, err := json.Marshal(map[string]string{"node": b.Node, "epoch": b.Epoch})
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, head[:len(head)-1]...), `,"records":[`...)
	for i := range b.Tasks {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = b.appendRecord(dst, i); err != nil {
			return dst, malformed(fmt.Sprintf("record %d", b.Sequences[i]), err)
		}
	}
	return append(dst, "]}"...), nil
}

func (b *Batch) appendRecord(dst []byte, i int) ([]byte, error) {
	t, err := task.Decode(b.Tasks[i])
	if err != nil {
		return dst, err
	}
	r := recordOf(b.Sequences[i], t)
	if dst, err = r.appendHead(dst); err != nil {
		return dst, err
	}
	return appendContent(dst, t.Encoding, t.Data)
}

// appendContent ends a record with its data. JSON is copied byte for byte if strict decoders can still read the message; json.Marshal would compact
// it.
func appendContent(dst []byte, enc task.Encoding, data []byte) ([]byte, error) {
	var c any = data
	name := `,"base64":`
	switch {
	case enc == task.JSON && isObject(data):
		return append(append(append(dst, `,"event":`...), data...), '}'), nil
	case enc == task.CBOR:
		if event := readableCBOR(data); event != nil {
			return append(append(append(dst, `,"event":`...), event...), '}'), nil
		}
	case (enc == task.JSON || enc == task.Text) && utf8.Valid(data):
		name, c = `,"text":`, string(data)
	}
	if data == nil && name == `,"base64":` {
		c = []byte{} // null would mean that there is no data
	}
	value, err := json.Marshal(c)
	return append(append(append(dst, name...), value...), '}'), err
}

// isObject reports whether data can be embedded in a JSON message and extracted unchanged.
func isObject(data []byte) bool {
	n := len(data)
	return n >= 2 && data[0] == '{' && data[n-1] == '}' && utf8.Valid(data) && json.Valid(data)
}

func (c *content) data() ([]byte, error) {
	n := 0
	var data []byte
	if c.event != nil {
		n, data = n+1, c.event
	}
	if c.text != nil {
		n, data = n+1, []byte(*c.text)
	}
	if c.base64 != nil {
		n, data = n+1, *c.base64
	}
	if n != 1 {
		return nil, malformedf("record", "must have one of event, text and base64, has %d", n)
	}
	return data, nil
}

// readJSON reads sequences and tasks from valid JSON, one record at a time. The promised count limits what is kept of a long list.
func (b *Batch) readJSON(data []byte, count int) error {
	var node, epoch string
	err := eachMember(data, func(name string, raw json.RawMessage) error {
		switch name {
		case "node":
			return json.Unmarshal(raw, &node)
		case "epoch":
			return json.Unmarshal(raw, &epoch)
		case "records":
			return b.readRecords(raw, count)
		}
		return nil // a field of a later version
	})
	if err != nil {
		return malformed("batch", err)
	}
	if node != b.Node || epoch != b.Epoch {
		return malformedf("batch", "node %q and epoch %q differ from %q and %q in its attributes", node, epoch, b.Node, b.Epoch)
	}
	return nil
}

func (b *Batch) readRecords(list json.RawMessage, count int) error {
	return eachElement(list, func(raw json.RawMessage) error {
		if len(b.Tasks) == count {
			return fmt.Errorf("more than the %d records in its attributes", count)
		}
		return b.readRecord(raw)
	})
}

// readRecord extracts the data before it decodes the other members, which are small.
func (b *Batch) readRecord(raw json.RawMessage) error {
	var c content
	rest := []byte{'{'}
	err := eachMember(raw, func(name string, value json.RawMessage) error {
		switch name {
		case "event":
			c.event = value
			return nil
		case "text":
			return json.Unmarshal(value, &c.text)
		case "base64":
			return json.Unmarshal(value, &c.base64)
		}
		quoted, err := json.Marshal(name)
		rest = append(append(append(append(rest, quoted...), ':'), value...), ',')
		return err
	})
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(append(bytes.TrimSuffix(rest, []byte{','}), '}'), &r); err != nil {
		return err
	}
	data, err := c.data()
	if err != nil {
		return err
	}
	if c.event != nil && task.Encoding(r.Encoding) == task.CBOR {
		if data, err = eventCBOR(data); err != nil {
			return err
		}
	}
	t, err := r.task(data)
	if err != nil {
		return err
	}
	b.Sequences = append(b.Sequences, r.Sequence)
	b.Tasks = append(b.Tasks, t.Append(nil))
	return nil
}

// appendHead appends the record as json.Marshal writes it, without its closing brace and without reflection, which took most of the time of the
// readable form: see FuzzHeadIsWhatMarshalWrites.
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

// head is a partial record, with the first error.
type head struct {
	dst []byte
	err error
}

// other encodes a value by json.Marshal.
func (h *head) other(name string, value any) {
	text, err := json.Marshal(value)
	if h.err == nil {
		h.err = err
	}
	h.dst = append(append(h.dst, name...), text...)
}

func (h *head) text(name, value string) {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' { // characters that json.Marshal escapes, or may
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

// fraction writes a number without exponent. json.Marshal uses an exponent below 1e-6 and from 1e21 on.
func (h *head) fraction(name string, value float32) {
	switch size := math.Abs(float64(value)); {
	case value == 0:
	case size >= 1e-5 && size < 1e20:
		h.dst = strconv.AppendFloat(append(h.dst, name...), float64(value), 'f', -1, 32)
	default:
		h.other(name, value)
	}
}
