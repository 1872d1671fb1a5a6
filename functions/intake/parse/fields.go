package parse

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

// field is a name known in an event, a reading or a request.
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

// jsonNames and cborNames are the names as they stand in an event by Go's encoders, in JSON with the colon.
var jsonNames, cborNames = func() (inJSON, inCBOR [fUnknown + 1]string) {
	for f, name := range fieldNames {
		inJSON[f] = `"` + name + `":`
		inCBOR[f] = string(rune(0x60+len(name))) + name
	}
	return inJSON, inCBOR
}()

// level is the set of names an object knows; every other name in it is passed over.
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

// misspelt finds the name a key equals but for its case. EdgeX's own decoder would take such a key for the name, and so
// would see another event than we do.
func (l level) misspelt(key []byte) (string, bool) {
	for f := range fieldCount {
		if l.knows(f) && bytes.EqualFold(key, []byte(fieldNames[f])) {
			return fieldNames[f], true
		}
	}
	return "", false
}

// form says how the bytes of a span are to be read.
type form uint8

const (
	formPlain   form = iota // as they are
	formEscaped             // a JSON string with escapes
	formChunked             // a CBOR string in pieces; the span covers the pieces with their heads
)

// span is a place in the payload.
type span struct {
	start, end int
	form       form
}

// object holds what was found in one object, before it is known whether it is complete.
type object struct {
	seen   uint32 // names that occurred
	set    uint32 // names that occurred with something other than null; at and origin hold for these only
	origin int64
	start  int // where the object begins
	at     [fieldCount]span

	// follow is which name came after which one the last time. One program writes its objects in one order, so a guess
	// is nearly always right, and a name that was guessed need not be looked for. It outlives reset.
	follow [fUnknown + 1]field
}

// atStart is what the first name of an object follows.
const atStart = fieldCount

func (o *object) reset(start int)     { o.seen, o.set, o.origin, o.start = 0, 0, 0, start }
func (o *object) has(f field) bool    { return o.set&(1<<f) != 0 }
func (o *object) put(f field, s span) { o.set |= 1 << f; o.at[f] = s }

// keySet notices a name that occurs twice. It is small while names are few, as they nearly always are.
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

// names holds the names of devices, profiles, sources, resources, units and media types that occurred lately. They are
// copied out of the payload, because a name that is kept somewhere must not keep a whole camera frame alive.
var names nameTable

const (
	nameSlots = 4096 // at most 0.5 MiB of names
	nameLimit = 128  // longer ones are copied each time
)

// nameTable is a cache with one place for each hash: a newer name takes an older one's place. It needs no lock.
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
