package task

import (
	"bytes"
	"encoding/base64"
)

// MaxTasks bounds the number of tasks of one event. A value that would need more gets larger chunks than its class configures, and if it still does
// not fit, it stays whole in the frame.
const MaxTasks = 1 << 16

// kib is the unit of Class.ChunkSize for binaries.
const kib = 1024

// strict rejects base64 with unused last bits set: it could not be restored exactly.
var strict = base64.StdEncoding.Strict()

// cut is one value that leaves its event in pieces.
type cut struct {
	reading    int
	class      *Class
	start, end int      // the range of Event.Raw that becomes a hole
	text       bool     // elements of an array; otherwise bytes
	raw        bool     // bytes of the event; otherwise those of a binary
	data       []byte   // data of the chunks: text without brackets, or the binary's bytes
	length     int      // of the whole value: elements or bytes
	size       int      // of one chunk: elements, bytes or readings
	bounds     [][2]int // of each reading, if readings are cut out and not a value
}

// readings returns the number of readings that leave the frame.
func (c *cut) readings() int { return max(1, len(c.bounds)) }

// encoding returns the encoding of the pieces and of the hole.
func (c *cut) encoding(ev *Event) Encoding {
	switch {
	case c.bounds != nil:
		return ev.Encoding
	case c.raw:
		return Raw
	case c.text:
		return Text
	}
	return Binary
}

func (c *cut) pieces() int { return (c.length + c.size - 1) / c.size }

// Split splits an event into tasks and appends them to dst: the critical ones first, otherwise in the order of their chunk numbers. An event without
// a value above the ChunkSize of its class stays whole, as a single task.
//
// classOf returns the class of a resource of this event; for "" it returns the class of the event as a whole, which a whole task and a frame have.
// The tasks share the bytes of ev.Raw; only a frame and the decoded bytes of a base64 value are new.
func Split(ev *Event, classOf func(resource string) *Class, dst []*Task) []*Task {
	whole := classOf("")
	tagged := whole.tagged(ev)
	critical, last := false, whole
	uncut := whole.leavesWhole(ev, tagged)
	room, from := MaxTasks-1, 1
	var cuts []cut
	for i := range ev.Readings {
		r := &ev.Readings[i]
		class := classOf(r.Resource)
		if class != last {
			tagged, last = tagged || class.tagged(ev), class
		}
		if r.Start >= from && !(uncut && class == whole) && long(ev, r, class) && room > 1 {
			if c, ok := measure(ev, r, class, room); ok {
				c.reading = i
				cuts = append(cuts, c)
				room, from = room-c.pieces(), c.end
				continue
			}
		}
		critical = critical || class.marks(r.Resource) || class.outside(r.Type, r.Value)
	}
	cuts = addRuns(ev, whole, cuts, MaxTasks-1)
	if len(cuts) == 0 {
		t := ev.task()
		*t = newTask(ev, whole)
		t.Of, t.Encoding, t.Data, t.Readings, t.Critical = 1, ev.Encoding, ev.Raw, ev.Readings, critical || tagged
		return append(dst, t)
	}
	return cutUp(ev, whole, cuts, tagged, critical, dst)
}

// leavesWhole reports whether the values of the event's own class stay in it: an event is most useful unchanged. Splitting is useful where the event
// exceeds the limit of a message, and where a large event has a critical part, so that this part leaves first.
func (c *Class) leavesWhole(ev *Event, tagged bool) bool {
	switch {
	case !c.Whole:
		return false
	case c.Largest > 0 && len(ev.Raw) > c.Largest:
		return false
	case tagged || len(ev.Raw) <= quickSize:
		return true
	}
	for i := range ev.Readings {
		if r := &ev.Readings[i]; c.marks(r.Resource) || c.outside(r.Type, r.Value) {
			return false
		}
	}
	return true
}

// task returns memory for the one task of the event. The task of an earlier Split may still be in use.
func (ev *Event) task() *Task {
	if ev.split {
		return new(Task)
	}
	ev.split = true
	return &ev.whole
}

// newTask fills in the fields that all tasks of an event share.
func newTask(ev *Event, class *Class) Task {
	return Task{
		EventID: ev.ID, Device: ev.Device, Profile: ev.Profile, Source: ev.Source,
		Origin: ev.Origin, Received: ev.Received,
		CorrelationID: ev.CorrelationID, Lineage: ev.Lineage,
		Class: class, Complexity: class.Complexity, Deadline: class.Deadline,
	}
}

// long reports whether a value may exceed the class's ChunkSize, by its type and bytes alone: nearly all values are small, and are neither counted
// nor decoded. A StringArray never does: EdgeX writes ["a", "b c"] as [a, b, c], other senders write JSON, and no rule finds the elements in both. A
// StringArray above the limit of a message leaves in pieces of bytes; see addRuns.
func long(ev *Event, r *Reading, class *Class) bool {
	size := r.End - r.Start
	if class.ChunkSize <= 0 || r.End > len(ev.Raw) {
		return false
	}
	return r.Type == Blob && size > class.ChunkSize*kib || r.Type.IsArray() && r.Type != StringArray && size > class.ChunkSize
}

// measure returns how a value is cut, into at most room pieces, and whether it is.
func measure(ev *Event, r *Reading, class *Class, room int) (cut, bool) {
	c := cut{class: class, start: r.Start, end: r.End, size: class.ChunkSize, text: r.Type.IsArray()}
	if c.text {
		c.measureText(ev.Raw)
	} else {
		c.size *= kib
		c.measureBinary(ev)
	}
	if c.length <= c.size {
		return cut{}, false
	}
	if most := class.Largest / 2; most > 0 { // regardless of ChunkSize: larger pieces would not fit a message
		c.size = min(c.size, max(1, most/max(1, len(c.data)/c.length)))
	}
	least := (c.length + room - 1) / room
	c.size = max(c.size, least)
	for !c.fits(class.Largest) { // some elements are longer than others
		if c.size == least {
			return cut{}, false // an element is longer than a message: addRuns cuts the reading by its bytes
		}
		c.size = max(least, c.size/2)
	}
	return c, true
}

// fits reports whether each piece has at most so many bytes; 0 is no limit.
func (c *cut) fits(largest int) bool {
	var piece []byte
	for rest := c.data; largest > 0 && len(rest) > largest; {
		if piece, rest = c.take(rest, min(c.size, len(rest))); len(piece) > largest {
			return false
		}
	}
	return true
}

func (c *cut) measureText(raw []byte) {
	if raw[c.start] == '[' && raw[c.end-1] == ']' {
		c.start, c.end = c.start+1, c.end-1
	}
	c.data = raw[c.start:c.end]
	c.length = elements(c.data)
}

// measureBinary leaves the length 0, so that the value stays whole, if the base64 is not canonical: Join could not restore it.
func (c *cut) measureBinary(ev *Event) {
	c.data = ev.Raw[c.start:c.end]
	if ev.Encoding == JSON {
		if strict.DecodedLen(len(c.data))-2 <= c.size {
			return
		}
		decoded, err := strict.AppendDecode(nil, c.data)
		if err != nil || strict.EncodedLen(len(decoded)) != len(c.data) {
			return
		}
		c.data = decoded
	}
	c.length = len(c.data)
}

// elements counts the parts between commas in the text of an array or chunk; a malformed one may have empty elements.
func elements(text []byte) int { return bytes.Count(text, []byte{','}) + 1 }

// cutUp makes the frame and the chunks in one slab, so that an event needs a handful of allocations for any number of chunks.
func cutUp(ev *Event, whole *Class, cuts []cut, tagged, critical bool, dst []*Task) []*Task {
	of := 1
	for i := range cuts {
		of += cuts[i].pieces()
	}
	slab, readings := make([]Task, 0, of), make([]Reading, of-1)
	slab = append(slab, newTask(ev, whole))
	for hole := range cuts {
		if c := &cuts[hole]; c.bounds != nil {
			slab = c.runs(ev, hole, slab)
		} else {
			slab = c.chunks(ev, hole, slab, readings)
		}
	}
	for i := range slab {
		t := &slab[i]
		t.Chunk, t.Of = i, of
		t.Critical = t.Critical || tagged
		critical = critical || t.Critical
	}
	slab[0].Critical = critical
	fillFrame(&slab[0], ev, cuts)
	return criticalFirst(slab, dst)
}

// chunks appends the pieces of one value. The reading of chunk n is readings[n-1].
func (c *cut) chunks(ev *Event, hole int, slab []Task, readings []Reading) []Task {
	r := &ev.Readings[c.reading]
	encoding, rest := c.encoding(ev), c.data
	for at := 0; at < c.length; at += c.size {
		t := newTask(ev, c.class)
		if whole := slab[0].Class; whole.NeverLeave {
			t.Class = whole // all pieces of an event that must not leave stay
		}
		t.Resource, t.Type, t.Encoding = r.Resource, r.Type, encoding
		t.Offset, t.Count, t.Hole = at, min(c.size, c.length-at), hole
		t.Data, rest = c.take(rest, t.Count)
		t.Critical = c.class.marks(r.Resource) || !c.raw && c.class.outside(r.Type, t.Data)

		n := len(slab) - 1
		if c.raw { // no operator reads it
			slab = append(slab, t)
			continue
		}
		readings[n] = Reading{
			Resource: r.Resource, Type: r.Type, Units: r.Units, MediaType: r.MediaType, Origin: r.Origin,
			Value: t.Data, Encoding: encoding,
		}
		t.Readings = readings[n : n+1 : n+1]
		slab = append(slab, t)
	}
	return slab
}

// take cuts off the first n elements or bytes. The comma between two chunks belongs to neither; blanks after it stay with the next one, so that
// joining by a comma restores every byte.
func (c *cut) take(data []byte, n int) (piece, rest []byte) {
	if !c.text {
		return data[:n:n], data[n:]
	}
	end := 0
	for ; n > 0; n-- {
		i := bytes.IndexByte(data[end:], ',')
		if i < 0 {
			return data[:len(data):len(data)], nil
		}
		end += i + 1
	}
	return data[: end-1 : end-1], data[end:]
}

// fillFrame copies the parts of the event between the holes.
func fillFrame(t *Task, ev *Event, cuts []cut) {
	size, left := len(ev.Raw), len(ev.Readings)
	for i := range cuts {
		size -= cuts[i].end - cuts[i].start
		left -= cuts[i].readings()
	}
	t.Encoding, t.Data = ev.Encoding, make([]byte, 0, size)
	t.Holes, t.Cut, t.Readings = make([]Hole, len(cuts)), make([]Reading, 0, len(ev.Readings)-left), make([]Reading, 0, left)
	from, next := 0, 0
	for i := range cuts {
		c := &cuts[i]
		t.Data = append(t.Data, ev.Raw[from:c.start]...)
		t.Readings = append(t.Readings, ev.Readings[next:c.reading]...)
		from, next = c.end, c.reading+c.readings()
		for _, r := range ev.Readings[c.reading:next] {
			typ := r.Type
			if c.raw { // of any type: no operator reads its pieces
				typ = Object
			}
			t.Cut = append(t.Cut, Reading{Resource: r.Resource, Type: typ})
		}
		t.Holes[i] = Hole{Resource: ev.Readings[c.reading].Resource, At: len(t.Data), Length: c.length, Encoding: c.encoding(ev)}
		if c.bounds != nil {
			t.Holes[i].Resource = ""
		}
	}
	t.Data = append(t.Data, ev.Raw[from:]...)
	t.Readings = append(t.Readings, ev.Readings[next:]...)
}

func criticalFirst(slab []Task, dst []*Task) []*Task {
	for _, want := range [...]bool{true, false} {
		for i := range slab {
			if slab[i].Critical == want {
				dst = append(dst, &slab[i])
			}
		}
	}
	return dst
}
