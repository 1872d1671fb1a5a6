package parse

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"sync"
	"unicode/utf8"

	"app-offload/functions/check"
	"app-offload/functions/clock"
	"app-offload/functions/task"
)

// parser reads one payload. The JSON and CBOR readers fill the same objects; the parser checks their contents for both.
type parser struct {
	b        []byte
	i        int
	depth    int
	maxDepth int
	encoding task.Encoding
	err      *RejectError

	top, nested, reading object
	main                 *object // the event: nested within a request, top otherwise
	end                  int     // of the event
	readings             []task.Reading
	scratch              []byte
	owners               []owner // of the readings, one for each change between neighbours
}

// owner is the device of a reading.
type owner struct{ device, profile []byte }

var parsers = sync.Pool{New: func() any { return new(parser) }}

// maxScratch is the number of readings for which a parser keeps memory between events.
const maxScratch = 1024

func (p *parser) start(payload []byte, encoding task.Encoding, maxDepth int) {
	p.b, p.encoding, p.maxDepth = payload, encoding, maxDepth
	p.i, p.depth, p.err, p.end = 0, 0, nil, 0
	p.main = &p.top
}

func (p *parser) recycle() {
	p.b, p.err, p.main = nil, nil, nil
	clear(p.readings) // they point into the payload
	p.readings = p.readings[:0]
	clear(p.owners)
	p.owners = p.owners[:0]
	if cap(p.owners) > maxScratch {
		p.owners = nil
	}
	if cap(p.readings) > maxScratch {
		p.readings = nil
	}
	parsers.Put(p)
}

// fail records the first problem and returns false for the caller to return.
func (p *parser) fail(reason string, at int, format string, args ...any) bool {
	if p.err == nil {
		p.err = Reject(reason, "byte %d: "+format, append([]any{at}, args...)...)
	}
	return false
}

// path returns the name of a field for people.
func (p *parser) path(o *object, f field) string {
	switch {
	case o == &p.reading:
		return fmt.Sprintf("readings[%d].%s", len(p.readings), fieldNames[f])
	case o == &p.nested:
		return "event." + fieldNames[f]
	}
	return fieldNames[f]
}

func (p *parser) missing(o *object, f field) bool {
	return p.fail(ReasonMissing, o.start, "%s is required", p.path(o, f))
}

func (p *parser) wrongType(o *object, f field, want string) bool {
	if p.i >= len(p.b) {
		return p.unexpected(want)
	}
	return p.fail(ReasonWrongType, p.i, "%s must be %s", p.path(o, f), want)
}

// claim notes that a name occurred and returns false if it did before.
func (p *parser) claim(o *object, f field, at int) bool {
	if o.seen&(1<<f) != 0 {
		return p.fail(ReasonDuplicate, at, "%s occurs twice", p.path(o, f))
	}
	o.seen |= 1 << f
	return true
}

// guessed reads the name that followed the last one before, if it follows again.
func (p *parser) guessed(o *object, l level, last field, names *[fUnknown + 1]string) (field, bool) {
	f := o.follow[last]
	name := names[f]
	if !l.knows(f) || len(p.b)-p.i < len(name) || string(p.b[p.i:p.i+len(name)]) != name {
		return fUnknown, false
	}
	p.i += len(name)
	return f, true
}

// field returns the field of a key. An unknown key is fUnknown and must not be a duplicate.
func (p *parser) field(o *object, l level, unknown *keySet, key span) (field, bool) {
	name := p.text(key)
	f := lookup(name)
	if l.knows(f) {
		return f, p.claim(o, f, key.start)
	}
	if known, ok := l.misspelt(name); ok {
		return f, p.fail(ReasonMalformed, key.start, "%q must be written %q", name, known)
	}
	if !unknown.add(p, key) {
		return f, p.fail(ReasonDuplicate, key.start, "%q occurs twice", name)
	}
	return fUnknown, true
}

func (p *parser) enter() bool {
	p.depth++
	if p.depth > p.maxDepth {
		return p.fail(ReasonTooDeep, p.i, "nested deeper than %d", p.maxDepth)
	}
	return true
}

// text returns the text of a span. Only escapes and pieces need a copy.
func (p *parser) text(s span) []byte {
	if s.form == formPlain {
		return p.b[s.start:s.end:s.end]
	}
	return p.resolve(s)
}

func (p *parser) resolve(s span) []byte {
	if s.form == formEscaped {
		return unescape(p.b[s.start:s.end])
	}
	return unchunk(p.b[s.start:s.end])
}

// unchunk joins the pieces of a checked string.
func unchunk(b []byte) []byte {
	out := make([]byte, 0, len(b))
	walk := parser{b: b}
	for walk.i < len(b) {
		h, ok := walk.head()
		if !ok {
			break
		}
		out = append(out, b[walk.i:walk.i+int(h.arg)]...)
		walk.i += int(h.arg)
	}
	return out
}

// get returns the text of a field, nil if it is absent.
func (p *parser) get(o *object, f field) []byte {
	if !o.has(f) {
		return nil
	}
	return p.text(o.at[f])
}

// require checks that a text field is present and not empty.
func (p *parser) require(o *object, f field) bool {
	if !o.has(f) || o.at[f].start == o.at[f].end || o.at[f].form == formChunked && len(p.get(o, f)) == 0 {
		return p.missing(o, f)
	}
	return true
}

// requireName also checks that it is more than white space.
func (p *parser) requireName(o *object, f field) bool {
	if !p.require(o, f) {
		return false
	}
	if name := p.get(o, f); name[0] > ' ' && name[0] < 0x80 || len(bytes.TrimSpace(name)) > 0 {
		return true
	}
	return p.fail(ReasonMissing, o.at[f].start, "%s must not be blank", p.path(o, f))
}

// maxName is the maximum length in bytes of a name of a device, profile, source or resource, a unit or a media type. Each task split from an event
// has copies of them. A topic, which contains such names, could not hold 65,536 bytes.
const maxName = 4096

// named are the fields that maxName bounds.
var named = [...]field{fDevice, fProfile, fSource, fResource, fUnits, fMediaType}

// bounded checks the lengths of names.
func (p *parser) bounded(o *object) bool {
	for _, f := range named {
		if o.has(f) && len(p.get(o, f)) > maxName {
			return p.fail(ReasonTooLarge, o.at[f].start, "%s has %d bytes, the limit is %d", p.path(o, f), len(p.get(o, f)), maxName)
		}
	}
	return true
}

// finishReading turns the object just read into a reading.
func (p *parser) finishReading() bool {
	o := &p.reading
	if !p.requireName(o, fDevice) || !p.requireName(o, fProfile) || !p.require(o, fResource) || !p.require(o, fValueType) {
		return false
	}
	if o.origin == 0 {
		return p.missing(o, fOrigin)
	}
	if !p.bounded(o) {
		return false
	}
	p.own(owner{p.get(o, fDevice), p.get(o, fProfile)})
	kind, ok := valueType(p.get(o, fValueType))
	if !ok {
		return p.fail(ReasonValueType, o.at[fValueType].start, "%s is %q, which is not a value type of EdgeX",
			p.path(o, fValueType), p.get(o, fValueType))
	}
	r := task.Reading{
		Resource: names.get(p.get(o, fResource)), Type: kind, Units: names.get(p.get(o, fUnits)),
		MediaType: names.get(p.get(o, fMediaType)), Origin: o.origin,
	}
	if !p.readValue(o, &r) {
		return false
	}
	p.readings = append(p.readings, r)
	return true
}

func (p *parser) own(by owner) {
	if n := len(p.owners); n == 0 || !by.is(p.owners[n-1].device, p.owners[n-1].profile) {
		p.owners = append(p.owners, by)
	}
}

func (o owner) is(device, profile []byte) bool {
	return bytes.Equal(o.device, device) && bytes.Equal(o.profile, profile)
}

// guests returns the devices that readings name and the event does not.
func (p *parser) guests(device, profile []byte) (guests []task.Guest) {
	for _, o := range p.owners {
		if !o.is(device, profile) {
			guests = append(guests, task.Guest{Device: names.get(o.device), Profile: names.get(o.profile)})
		}
	}
	return guests
}

func (p *parser) readValue(o *object, r *task.Reading) bool {
	switch r.Type {
	case task.Blob:
		if !p.require(o, fBinary) || !p.require(o, fMediaType) {
			return false
		}
		p.place(o, fBinary, r)
	case task.Object:
		if !o.has(fObject) {
			return p.missing(o, fObject)
		}
		r.Value = p.get(o, fObject) // it is never split, so Start and End stay 0
	default:
		if o.has(fValue) {
			p.place(o, fValue, r)
		}
	}
	return true
}

// place points the reading at its value. A copied value has no position in the event.
func (p *parser) place(o *object, f field, r *task.Reading) {
	s := o.at[f]
	r.Value = p.text(s)
	if s.form == formPlain {
		base := p.main.start
		r.Start, r.End = s.start-base, s.end-base
	}
}

func valueType(name []byte) (task.ValueType, bool) {
	if t, ok := task.ParseType(name); ok {
		return t, true
	}
	// EdgeX accepts a type in any case and corrects it, see its NormalizeValueType.
	for t := task.Bool; t <= task.Object; t++ {
		if bytes.EqualFold(name, []byte(t.String())) {
			return t, true
		}
	}
	return task.Unknown, false
}

// beginEvent is called at an event within a request.
func (p *parser) beginEvent() bool {
	if p.top.seen&uint32(eventLevel&^(1<<fAPIVersion)) != 0 {
		return p.fail(ReasonMalformed, p.i, "fields of an event beside \"event\"")
	}
	p.main = &p.nested
	return true
}

// finishDocument checks the fields around the event.
func (p *parser) finishDocument() bool {
	if p.main == &p.top {
		p.end = len(p.b)
		return p.finishEvent()
	}
	if p.top.seen&uint32(eventLevel&^(1<<fAPIVersion)) != 0 {
		return p.fail(ReasonMalformed, p.top.start, "fields of an event beside \"event\"")
	}
	if !p.require(&p.top, fAPIVersion) {
		return false
	}
	if id := p.get(&p.top, fRequestID); len(id) > 0 && !isUUID(id) {
		return p.fail(ReasonBadID, p.top.at[fRequestID].start, "requestId is %q, which is not a lower-case UUID", id)
	}
	return p.finishEvent()
}

func (p *parser) finishEvent() bool {
	o := p.main
	if !p.require(o, fAPIVersion) || !p.require(o, fID) || !p.requireName(o, fDevice) || !p.requireName(o, fProfile) ||
		!p.require(o, fSource) {
		return false
	}
	if id := p.get(o, fID); !isUUID(id) {
		return p.fail(ReasonBadID, o.at[fID].start, "%s is %q, which is not a lower-case UUID", p.path(o, fID), id)
	}
	if o.origin == 0 {
		return p.missing(o, fOrigin)
	}
	if len(p.readings) == 0 {
		return p.missing(o, fReadings)
	}
	return p.bounded(o)
}

// MaxCorrelation is the number of bytes of a correlation id that are kept; EdgeX's are UUIDs.
const MaxCorrelation = 512

// ids returns the two ids of an event as strings, which share one allocation.
func (p *parser) ids(event, correlation []byte) (id, cid string) {
	if len(correlation) > MaxCorrelation || !utf8.Valid(correlation) {
		return string(event), check.Cut(string(correlation[:min(len(correlation), 2*MaxCorrelation)]), MaxCorrelation)
	}
	p.scratch = append(append(p.scratch[:0], event...), correlation...)
	both := string(p.scratch)
	return both[:len(event)], both[len(event):]
}

// event builds the result after a successful parse.
func (p *parser) event(correlation []byte) (*task.Event, error) {
	ev, readings := allocate(len(p.readings))
	copy(readings, p.readings)
	o := p.main
	id, cid := p.ids(p.get(o, fID), correlation)
	*ev = task.Event{
		ID: id, CorrelationID: cid, Device: names.get(p.get(o, fDevice)), Profile: names.get(p.get(o, fProfile)),
		Source: names.get(p.get(o, fSource)), Origin: o.origin, Received: now(), Encoding: p.encoding,
		Raw: p.b[o.start:p.end:p.end], Readings: readings, Tags: p.get(o, fTags),
	}
	ev.Guests = p.guests(p.get(o, fDevice), p.get(o, fProfile))
	return ev, nil
}

// now returns a stamp of this node's clock, for Event.Received.
func now() int64 { return clock.System.Now() }

// allocate makes an event and its readings, in one allocation for a single reading, the usual case.
func allocate(n int) (*task.Event, []task.Reading) {
	if n == 1 {
		var one struct {
			event    task.Event
			readings [1]task.Reading
		}
		return &one.event, one.readings[:]
	}
	return new(task.Event), make([]task.Reading, n)
}

// isUUID accepts the UUIDs that EdgeX accepts: lower-case hexadecimal digits in groups of 8-4-4-4-12.
func isUUID(id []byte) bool {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return false
	}
	return allHex(id[:8]) && allHex(id[9:13]) && allHex(id[14:18]) && allHex(id[19:23]) && allHex(id[24:])
}

func allHex(b []byte) bool {
	var digit byte
	for _, c := range b {
		digit |= hexDigit[c]
	}
	return digit < 16
}

// hexDigit is the value of a lower-case hexadecimal digit, 0xff for other bytes.
var hexDigit = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		table[c] = byte(i)
	}
	return table
}()

var base64Digit = func() (table [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		table[c] = true
	}
	return table
}()

// isBase64 reports whether EdgeX can decode the text. Line breaks, which its decoder skips, take the slow path.
func isBase64(text []byte) bool {
	n := len(text)
	if n%4 == 0 {
		body := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("=")), []byte("="))
		if digits := base64Digits(body); digits == len(body) {
			return true
		}
	}
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0 {
		return false
	}
	_, err := base64.StdEncoding.AppendDecode(nil, text)
	return err == nil
}

// base64Digits counts the leading base64 digits.
func base64Digits(text []byte) int {
	for i, c := range text {
		if !base64Digit[c] {
			return i
		}
	}
	return len(text)
}
