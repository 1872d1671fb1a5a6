package task

import (
	"bytes"
	"encoding/json"

	"github.com/fxamacker/cbor/v2"
)

// quickSize is the size in bytes up to which an event is sent so quickly that its critical part need not leave first.
const quickSize = 64 << 10

// runSize is the approximate size in bytes of a chunk of readings.
const runSize = 64 << 10

// addRuns splits an event that is still too large by its readings: the readings between the values that are cut leave in runs, and a reading that is
// itself too large leaves in pieces of its bytes. Data that must not leave stay whole, for the local operators.
func addRuns(ev *Event, whole *Class, cuts []cut, room int) []cut {
	size := len(ev.Raw)
	for i := range cuts {
		size -= cuts[i].end - cuts[i].start
		room -= cuts[i].pieces()
	}
	if whole.Largest <= 0 || size <= whole.Largest || whole.NeverLeave {
		return cuts
	}
	bounds, ok := readingBounds(ev)
	if !ok {
		return cuts
	}
	r := runner{ev: ev, class: whole, bounds: bounds}
	parts := len(cuts) + 1
	for _, b := range bounds {
		if r.tooLarge(b) {
			parts += 2
		}
	}
	if r.room = room / parts; r.room < 1 {
		return cuts
	}
	from := 0
	for i := range cuts {
		r.run(from, cuts[i].reading)
		r.cuts = append(r.cuts, cuts[i])
		from = cuts[i].reading + 1
	}
	r.run(from, len(bounds))
	return r.cuts
}

// runner collects the cuts of an event that is split by its readings.
type runner struct {
	ev     *Event
	class  *Class
	bounds [][2]int
	room   int // maximum number of pieces of each cut
	cuts   []cut
}

func (r *runner) tooLarge(b [2]int) bool { return b[1]-b[0] > r.class.Largest/2 }

// run cuts out the readings from one index up to, but not including, another.
func (r *runner) run(from, to int) {
	for i := from; i < to; i++ {
		b := r.bounds[i]
		if !r.tooLarge(b) {
			continue
		}
		r.small(from, i)
		r.cuts = append(r.cuts, cut{
			reading: i, class: r.class, start: b[0], end: b[1], raw: true, data: r.ev.Raw[b[0]:b[1]], length: b[1] - b[0],
			size: max(min(runSize, r.class.Largest/2), (b[1]-b[0]+r.room-1)/r.room),
		})
		from = i + 1
	}
	r.small(from, to)
}

// small is run for readings of which many fit a message.
func (r *runner) small(from, to int) {
	if to-from < 2 {
		return
	}
	largest := 1
	for _, b := range r.bounds[from:to] {
		largest = max(largest, b[1]-b[0])
	}
	size := max(min(runSize, r.class.Largest/2)/largest, (to-from+r.room-1)/r.room)
	r.cuts = append(r.cuts, cut{
		reading: from, class: r.class, start: r.bounds[from][0], end: r.bounds[to-1][1], length: to - from, size: size, bounds: r.bounds[from:to],
	})
}

// runs appends the pieces of a run of readings, each an array in the encoding of the event.
func (c *cut) runs(ev *Event, hole int, slab []Task) []Task {
	for at := 0; at < c.length; at += c.size {
		n := min(c.size, c.length-at)
		t := newTask(ev, c.class)
		t.Offset, t.Count, t.Hole = at, n, hole
		if t.Encoding = ev.Encoding; t.Encoding == CBOR {
			t.Data = append(readingsHead(n), ev.Raw[c.bounds[at][0]:c.bounds[at+n-1][1]]...)
		} else {
			t.Data = c.jsonRun(ev.Raw, at, n)
		}
		t.Readings = ev.Readings[c.reading+at : c.reading+at+n : c.reading+at+n]
		for i := range t.Readings {
			r := &t.Readings[i]
			t.Critical = t.Critical || c.class.marks(r.Resource) || c.class.outside(r.Type, r.Value)
		}
		slab = append(slab, t)
	}
	return slab
}

// jsonRun returns the array of n readings of a run.
func (c *cut) jsonRun(raw []byte, at, n int) []byte {
	inner := raw[c.bounds[at][0]:c.bounds[at+n-1][1]]
	data := append(append(append(make([]byte, 0, len(inner)+2), '['), inner...), ']')
	if at > 0 { // blanks before a reading stay with it, so that joining restores every byte
		blanks := raw[c.bounds[at-1][1]:c.bounds[at][0]]
		blanks = blanks[bytes.IndexByte(blanks, ',')+1:]
		data = append(append(append(make([]byte, 0, len(blanks)+len(inner)+2), '['), blanks...), inner...)
		data = append(data, ']')
	}
	if at+n < c.length { // and those behind it, before the comma
		behind := raw[c.bounds[at+n-1][1]:c.bounds[at+n][0]]
		behind = behind[:bytes.IndexByte(behind, ',')]
		data = append(append(data[:len(data)-1], behind...), ']')
	}
	return data
}

// readingBounds returns the begin and end of each reading of an event.
func readingBounds(ev *Event) (bounds [][2]int, ok bool) {
	if ev.Encoding == CBOR {
		var found struct {
			Readings []span `cbor:"readings"`
		}
		if err := cbor.Unmarshal(ev.Raw, &found); err != nil {
			return nil, false
		}
		bounds, ok = placesOf(found.Readings, ev.Raw)
	} else {
		bounds, ok = jsonBounds(ev.Raw)
	}
	return bounds, ok && len(bounds) == len(ev.Readings)
}

// jsonBounds is readingBounds for JSON.
func jsonBounds(raw []byte) (bounds [][2]int, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	var value json.RawMessage
	for d.More() {
		name, err := d.Token()
		if err == nil && name == "readings" {
			return jsonItems(d)
		}
		if err != nil || d.Decode(&value) != nil {
			return nil, false
		}
	}
	return nil, false
}

// jsonItems returns the begin and end of each item of the next array.
func jsonItems(d *json.Decoder) (bounds [][2]int, ok bool) {
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	var value json.RawMessage
	for d.More() {
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		end := int(d.InputOffset())
		bounds = append(bounds, [2]int{end - len(value), end})
	}
	return bounds, true
}

// span is a part of encoded bytes. The CBOR decoder passes a slice of the original bytes, so its capacity reveals its position.
type span []byte

func (s *span) UnmarshalCBOR(part []byte) error { *s = part; return nil }

// placesOf returns the begin and end of each part, or false if a part is a copy.
func placesOf(parts []span, raw []byte) (places [][2]int, ok bool) {
	places = make([][2]int, len(parts))
	for i, s := range parts {
		at := cap(raw) - cap(s)
		if len(s) == 0 || at < 0 || at+len(s) > len(raw) || &raw[at] != &s[0] {
			return nil, false
		}
		places[i] = [2]int{at, at + len(s)}
	}
	return places, true
}

// readingsHead returns the head of a CBOR array of n readings.
func readingsHead(n int) []byte {
	array, _ := cbor.Marshal(make([]bool, n)) // a byte each; it cannot fail
	return array[: len(array)-n : len(array)-n]
}

// readingsIn returns the number of readings in such an array, and the position of the first.
func readingsIn(data []byte) (n, from int, ok bool) {
	var found []span
	err := cbor.Unmarshal(data, &found)
	places, _ := placesOf(found, data)
	if err != nil || len(places) == 0 {
		return 0, 0, false
	}
	end := places[len(places)-1][1]
	return len(places), places[0][0], end == len(data) // an array of indefinite length would have an end marker
}
