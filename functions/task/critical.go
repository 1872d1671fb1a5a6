package task

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"app-offload/functions/check"
)

// marks reports whether the class marks the resource as critical.
func (c *Class) marks(resource string) bool {
	return matches(c.Critical.Resource, resource)
}

// outside reports whether a numeric value, or an element of it, is out of the class's critical range. NaN is out of every range. Values that are not
// numbers are ignored; the operators report them where it matters.
func (c *Class) outside(typ ValueType, value []byte) bool {
	low, high := c.Critical.Low, c.Critical.High
	if !typ.IsNumeric() || (math.IsNaN(low) && math.IsNaN(high)) {
		return false
	}
	list := newElements(value)
	for elem, ok := list.next(); ok; elem, ok = list.next() {
		v, err := number(typ, elem)
		if err == nil && (v < low || v > high || math.IsNaN(v)) {
			return true
		}
	}
	return false
}

// tagged reports whether the event has the class's critical tag with a truthy value.
func (c *Class) tagged(ev *Event) bool {
	tag := c.Critical.Tag
	if tag == "" || !mayHold(ev, tag) {
		return false
	}
	var tags map[string]any
	var err error
	if ev.Encoding == CBOR {
		err = cbor.Unmarshal(ev.Tags, &tags)
	} else {
		err = json.Unmarshal(ev.Tags, &tags)
	}
	return err == nil && truthy(tags[tag])
}

// mayHold avoids decoding the tags of nearly every event: a name that is not there literally can only be hidden by JSON escapes.
func mayHold(ev *Event, tag string) bool {
	if bytes.Contains(ev.Tags, []byte(tag)) {
		return true
	}
	return ev.Encoding == JSON && bytes.IndexByte(ev.Tags, '\\') >= 0
}

// truthy returns true for true, a number other than 0, and a text other than "", "0" and "false".
func truthy(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case string:
		return v != "" && v != "0" && !strings.EqualFold(v, "false")
	case float64:
		return v != 0
	case uint64:
		return v != 0
	case int64:
		return v != 0
	}
	return false
}

// matches is check.Matches for well-formed globs. It compares literal names, the usual case, directly.
func matches(glob, name string) bool { return glob == name || check.Matches(glob, name) }
