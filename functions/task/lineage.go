package task

import (
	"encoding/json"
	"strconv"

	"github.com/fxamacker/cbor/v2"
)

// The tags of a result, by which every app-offload recognises it wherever it was passed on.
const (
	TagNode    = "offloadNode"    // the Node of the app-offload that computed it
	TagService = "offloadService" // the service key of that app-offload
	TagHop     = "offloadHop"     // 1 for a result of device data, one more for each app-offload that computed on the result of another
)

// MaxHop is above any configurable limit: the hop of a result whose tags cannot be read.
const MaxHop = 255

// Lineage names the app-offload that computed an event. Hop is 0 for device data, and then the names are empty; they are also empty for a result that
// was recognised although it has lost its tags.
type Lineage struct {
	Node, Service string
	Hop           int
}

// Tagged reads the lineage from the event's tags. For nearly every event it is only a search for one of their names.
func (ev *Event) Tagged() Lineage {
	if !mayHold(ev, TagHop) && !mayHold(ev, TagService) {
		return Lineage{}
	}
	var tags map[string]any
	var err error
	if ev.Encoding == CBOR {
		err = cbor.Unmarshal(ev.Tags, &tags)
	} else {
		err = json.Unmarshal(ev.Tags, &tags)
	}
	hop, tagged := tags[TagHop]
	service, named := tags[TagService]
	if err != nil || !tagged && !named {
		return Lineage{}
	}
	l := Lineage{Hop: hopOf(hop)}
	l.Service, _ = service.(string)
	l.Node, _ = tags[TagNode].(string)
	return l
}

// hopOf reads a hop from text or a number, since services that pass an event on may convert one to the other.
func hopOf(tag any) int {
	hop := 0
	switch v := tag.(type) {
	case string:
		hop, _ = strconv.Atoi(v)
	case float64:
		hop = int(min(max(v, 0), MaxHop))
	case uint64:
		hop = int(min(v, MaxHop))
	}
	if hop < 1 || hop > MaxHop {
		return MaxHop
	}
	return hop
}
