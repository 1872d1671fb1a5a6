package parse

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

// field is a known name in an event, a reading or a request.
type field uint8

const (
	fAPIVersion field = iota
	fID
	fDevice
	fProfile
	fSource
	fOrigin
	fReadings
	fTags
	fEvent
	fRequestID
	fResource
	fValueType
	fUnits
	fBinary
	fMediaType
	fValue
	fObject
	fieldCount
	fUnknown
)

var fieldNames = [fieldCount]string{
	fAPIVersion: "apiVersion", fID: "id", fDevice: "deviceName", fProfile: "profileName", fSource: "sourceName",
	fOrigin: "origin", fReadings: "readings", fTags: "tags", fEvent: "event", fRequestID: "requestId",
	fResource: "resourceName", fValueType: "valueType", fUnits: "units", fBinary: "binaryValue",
	fMediaType: "mediaType", fValue: "value", fObject: "objectValue",
}

// jsonNames and cborNames are the names as Go's encoders write them in an event, in JSON with the colon.
var jsonNames, cborNames = func() (inJSON, inCBOR [fUnknown + 1]string) {
	for f, name := range fieldNames {
		inJSON[f] = `"` + name + `":`
		inCBOR[f] = string(rune(0x60+len(name))) + name
	}
	return inJSON, inCBOR
}()

// level is the set of names that an object knows; other names in it are skipped.
type level uint32

const (
	eventLevel level = 1<<fAPIVersion | 1<<fID | 1<<fDevice | 1<<fProfile | 1<<fSource | 1<<fOrigin | 1<<fReadings | 1<<fTags
	topLevel         = eventLevel | 1<<fEvent | 1<<fRequestID

	readingLevel level = 1<<fID | 1<<fOrigin | 1<<fDevice | 1<<fResource | 1<<fProfile | 1<<fValueType | 1<<fUnits |
		1<<fTags | 1<<fBinary | 1<<fMediaType | 1<<fValue | 1<<fObject
)

func (l level) knows(f field) bool { return l&(1<<f) != 0 }

func lookup(key []byte) field {
	switch string(key) {
	case "apiVersion":
		return fAPIVersion
	case "id":
		return fID
	case "deviceName":
		return fDevice
	case "profileName":
		return fProfile
	case "sourceName":
		return fSource
	case "origin":
		return fOrigin
	case "readings":
		return fReadings
	case "tags":
		return fTags
	case "event":
		return fEvent
	case "requestId":
		return fRequestID
	case "resourceName":
		return fResource
	case "valueType":
		return fValueType
	case "units":
		return fUnits
	case "binaryValue":
		return fBinary
	case "mediaType":
		return fMediaType
	case "value":
		return fValue
	case "objectValue":
		return fObject
	}
	return fUnknown
}

// misspelt returns the name that a key equals apart from its case. EdgeX's own decoder would accept such a key as the name, and so see a different
// event.
func (l level) misspelt(key []byte) (string, bool) {
	for f := range fieldCount {
		if l.knows(f) && bytes.EqualFold(key, []byte(fieldNames[f])) {
			return fieldNames[f], true
		}
	}
	return "", false
}

// form is the encoding of a span's bytes.
type form uint8

const (
	formPlain   form = iota // unchanged
	formEscaped             // a JSON string with escapes
	formChunked             // a CBOR string in pieces; the span includes the heads of the pieces
)

// span is a range of the payload.
type span struct {
	start, end int
	form       form
}

// object collects the fields of one object before it is complete.
type object struct {
	seen   uint32 // names that occurred
	set    uint32 // names with a value other than null; at and origin are valid for these only
	origin int64
	start  int // begin of the object
	at     [fieldCount]span

	// follow maps each name to the one that came after it last time. A program writes its objects in one order, so this guess is nearly always right and
	// saves a lookup. It outlives reset.
	follow [fUnknown + 1]field
}

// atStart is the predecessor of the first name of an object.
const atStart = fieldCount

func (o *object) reset(start int)     { o.seen, o.set, o.origin, o.start = 0, 0, 0, start }
func (o *object) has(f field) bool    { return o.set&(1<<f) != 0 }
func (o *object) put(f field, s span) { o.set |= 1 << f; o.at[f] = s }

// keySet detects duplicate names. It is small while there are few names, which is nearly always the case.
type keySet struct {
	n    int
	few  [8]span
	many map[string]struct{}
}

// add reports whether the key is new.
func (k *keySet) add(p *parser, s span) bool {
	if k.many != nil {
		return k.addMany(p, s)
	}
	key := p.text(s)
	for _, other := range k.few[:k.n] {
		if bytes.Equal(key, p.text(other)) {
			return false
		}
	}
	if k.n < len(k.few) {
		k.few[k.n] = s
		k.n++
		return true
	}
	k.many = make(map[string]struct{}, 4*len(k.few))
	for _, other := range k.few {
		k.many[string(p.text(other))] = struct{}{}
	}
	return k.addMany(p, s)
}

func (k *keySet) addMany(p *parser, s span) bool {
	key := p.text(s)
	if _, ok := k.many[string(key)]; ok {
		return false
	}
	k.many[string(key)] = struct{}{}
	return true
}

// names caches recent names of devices, profiles, sources, resources, units and media types. They are copies, because a retained name must not pin a
// whole camera frame.
var names nameTable

const (
	nameSlots = 4096 // at most 0.5 MiB of names
	nameLimit = 128  // longer ones are copied each time
)

// nameTable is a cache with one place per hash: a newer name replaces an older one. It needs no lock.
type nameTable struct {
	slots [nameSlots]atomic.Pointer[string]
}

var nameSeed = maphash.MakeSeed()

func (t *nameTable) get(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > nameLimit {
		return string(b)
	}
	slot := &t.slots[maphash.Bytes(nameSeed, b)%nameSlots]
	if known := slot.Load(); known != nil && *known == string(b) {
		return *known
	}
	name := string(b)
	slot.Store(&name)
	return name
}
