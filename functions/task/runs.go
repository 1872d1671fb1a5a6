package task

import "bytes"

// leavesWhole reports whether the values of the event's own class stay in it: an event is of most use as it came. Cutting pays where the
// event exceeds the limit of a message, and where a part of a large event is critical, so that it leaves before the rest.
func (c *Class) leavesWhole(ev *Event, tagged bool) bool {
	switch {
	case !c.Whole:
		return false
	case c.Largest > 0 && len(ev.Raw) > c.Largest:
		return false
	case tagged || len(ev.Raw) <= patient:
		return true
	}
	for i := range ev.Readings {
		if r := &ev.Readings[i]; c.marks(r.Resource) || c.outside(r.Type, r.Value) {
			return false
		}
	}
	return true
}

// patient is the size in bytes up to which an event leaves so soon that its critical part need not go first.
const patient = 64 << 10

// runSize is about the size in bytes of a chunk of readings.
const runSize = 64 << 10

// addRuns cuts an event of JSON that is still too large by its readings: those between the values that are cut leave in runs.
func addRuns(ev *Event, whole *Class, cuts []cut, room int) []cut {
	size := len(ev.Raw)
	for i := range cuts {
		size -= cuts[i].end - cuts[i].start
		room -= cuts[i].pieces()
	}
	if whole.Largest <= 0 || size <= whole.Largest || ev.Encoding != JSON || room < len(cuts)+1 {
		return cuts
	}
	bounds, ok := readingBounds(ev.Raw, len(ev.Readings))
	if !ok {
		return cuts
	}
	room /= len(cuts) + 1 // for each run
	var all []cut
	from := 0
	for i := range cuts {
		all = appendRun(all, whole, bounds, from, cuts[i].reading, room)
		all = append(all, cuts[i])
		from = cuts[i].reading + 1
	}
	return appendRun(all, whole, bounds, from, len(bounds), room)
}

// appendRun cuts out the readings from one index up to, but without, another.
func appendRun(cuts []cut, whole *Class, bounds [][2]int, from, to, room int) []cut {
	if to-from < 2 {
		return cuts
	}
	largest := 1
	for _, b := range bounds[from:to] {
		largest = max(largest, b[1]-b[0])
	}
	size := max(1, min(runSize, whole.Largest/2)/largest, (to-from+room-1)/room)
	return append(cuts, cut{
		reading: from, class: whole, start: bounds[from][0], end: bounds[to-1][1], length: to - from, size: size, bounds: bounds[from:to],
	})
}

// runs appends the pieces of a run of readings, each an array of JSON.
func (c *cut) runs(ev *Event, hole int, slab []Task) []Task {
	for at := 0; at < c.length; at += c.size {
		n := min(c.size, c.length-at)
		t := newTask(ev, c.class)
		t.Encoding, t.Offset, t.Count, t.Hole = JSON, at, n, hole
		inner := ev.Raw[c.bounds[at][0]:c.bounds[at+n-1][1]]
		t.Data = append(append(append(make([]byte, 0, len(inner)+2), '['), inner...), ']')
		if at > 0 { // blanks before a reading stay with it, so that joining restores every byte
			blanks := ev.Raw[c.bounds[at-1][1]:c.bounds[at][0]]
			blanks = blanks[bytes.IndexByte(blanks, ',')+1:]
			t.Data = append(append(append(make([]byte, 0, len(blanks)+len(inner)+2), '['), blanks...), inner...)
			t.Data = append(t.Data, ']')
		}
		if at+n < c.length { // and those behind it, before the comma
			behind := ev.Raw[c.bounds[at+n-1][1]:c.bounds[at+n][0]]
			behind = behind[:bytes.IndexByte(behind, ',')]
			t.Data = append(append(t.Data[:len(t.Data)-1], behind...), ']')
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

// readingBounds finds where each of the n readings of an event begins and ends. The event is valid JSON.
func readingBounds(raw []byte, n int) ([][2]int, bool) {
	at := skipBlanks(raw, 0)
	if at >= len(raw) || raw[at] != '{' {
		return nil, false
	}
	for at = skipBlanks(raw, at+1); at < len(raw) && raw[at] == '"'; {
		end := skipJSON(raw, at)
		name := raw[at:end]
		at = skipBlanks(raw, end)
		if at >= len(raw) || raw[at] != ':' {
			return nil, false
		}
		at = skipBlanks(raw, at+1)
		if string(name) == `"readings"` {
			return elementBounds(raw, at, n)
		}
		at = skipBlanks(raw, skipJSON(raw, at))
		if at >= len(raw) || raw[at] != ',' {
			return nil, false
		}
		at = skipBlanks(raw, at+1)
	}
	return nil, false
}

func elementBounds(raw []byte, at, n int) ([][2]int, bool) {
	if at >= len(raw) || raw[at] != '[' {
		return nil, false
	}
	bounds := make([][2]int, 0, n)
	for at = skipBlanks(raw, at+1); at < len(raw) && raw[at] != ']'; {
		end := skipJSON(raw, at)
		bounds = append(bounds, [2]int{at, end})
		if at = skipBlanks(raw, end); at < len(raw) && raw[at] == ',' {
			at = skipBlanks(raw, at+1)
		}
	}
	return bounds, len(bounds) == n
}

func skipBlanks(raw []byte, at int) int {
	for at < len(raw) && (raw[at] == ' ' || raw[at] == '\n' || raw[at] == '\t' || raw[at] == '\r') {
		at++
	}
	return at
}

// skipJSON is where the value ends that begins at a place.
func skipJSON(raw []byte, at int) int {
	depth := 0
	for ; at < len(raw); at++ {
		switch c := raw[at]; c {
		case '"':
			for at++; at < len(raw) && raw[at] != '"'; at++ {
				if raw[at] == '\\' {
					at++
				}
			}
			if depth == 0 {
				return min(at+1, len(raw))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
			if depth < 0 {
				return at
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return at
			}
		}
	}
	return len(raw)
}
