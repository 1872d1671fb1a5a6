// Package task defines the data of the service: an Event as received, the Tasks split from it, and the Class with the settings for each.
//
// The bytes of an event are kept as received and never modified after intake; tasks and readings point into them. Values are therefore safe to read
// from several goroutines once built. Of this project the package imports only check and clock.
//
// The files by purpose. Only Classes holds state:
//
//	task.go, valuetype.go     Event, Reading and Task; values.go reads the values of a reading
//	split.go, runs.go, critical.go
//	                          split an event into tasks and chunks, the critical part first; join.go joins chunks
//	classes.go, classconfig.go
//	                          a Class and its settings; Classes finds the class of an event and caches it under a lock
//	record.go                 a task as a record of the spool and back
//	own.go                    copies that do not pin the buffer they were cut from
//	lineage.go                the origin of a task that is a result
package task

import "time"

// Encoding is the encoding of bytes.
type Encoding uint8

// The encodings of an event, and of the data of a chunk.
const (
	JSON   Encoding = iota + 1 // an Event DTO as JSON
	CBOR                       // an Event DTO as CBOR
	Text                       // a chunk of an array: elements as text, separated by commas, without brackets
	Binary                     // a chunk of a binary value: the bytes themselves, no base64
	Raw                        // a chunk of a reading that no message holds: the exact bytes of the event
)

// Event is one received EdgeX event: its bytes and an index into them.
type Event struct {
	ID, Device, Profile, Source string
	CorrelationID               string
	Topic                       string   // on which it was received, "" if not known
	Lineage                     Lineage  // of a result of an app-offload; zero for the data of a device
	Origin                      int64    // ns since the Unix epoch, set by the device service
	Received                    int64    // a stamp of this node's clock (functions/clock), ns
	Encoding                    Encoding // JSON or CBOR
	Raw                         []byte   // the Event object exactly as received, without request or envelope
	Readings                    []Reading
	Guests                      []Guest // devices that only readings name, each at least once
	Tags                        []byte  // the raw tags object in the event's encoding, nil without tags

	whole Task // of the first Split that leaves the event whole, which saves an allocation
	split bool // whole is in use
}

// Guest is a device that a reading names and its event does not, as where an app service collects readings of several devices in one event.
type Guest struct{ Device, Profile string }

// Reading is one reading of an event. Its value is decoded on demand.
type Reading struct {
	Resource  string
	Type      ValueType
	Units     string
	MediaType string
	Origin    int64
	// Value is, by type: the text of a simple or array value with escapes resolved; the base64 text (JSON) or the bytes (CBOR) of a binary; the encoded
	// object. It points into Event.Raw unless escapes were resolved.
	Value []byte
	// Encoding is the encoding of a binary's Value: JSON (or 0) is base64 text; CBOR and Binary are the bytes themselves. It has no meaning for other
	// types.
	Encoding Encoding
	// Start and End bound the value inside Event.Raw, quotes excluded; both are 0 if the value cannot be cut (it contains escapes, or is absent).
	Start, End int
}

// Task is one unit of work: a whole event, or one chunk of it.
//
// A large array or binary is cut out of its event: chunk 0 is then the frame, the event with holes in place of the values, and the chunks 1 … Of-1
// fill those holes.
type Task struct {
	EventID                           string
	Device, Profile, Source, Resource string // Resource is set for chunks ≥ 1 only
	Origin, Received                  int64  // ns since the Unix epoch; on this node Received is a stamp of its clock, on the wire wall time
	CorrelationID                     string // of the envelope; "" without one
	Lineage                           Lineage
	Chunk, Of                         int // Of is 1 for a whole event
	Class                             *Class
	Critical                          bool
	reduced                           *unreduced // state before Reduce, nil for a task that was not reduced

	Encoding Encoding
	Data     []byte
	Type     ValueType // of the value that a chunk ≥ 1 was cut from
	Offset   int       // first element (arrays) or byte (binaries) of a chunk ≥ 1 within its value
	Count    int       // elements or bytes in a chunk ≥ 1
	Hole     int       // which hole of the frame a chunk ≥ 1 belongs to
	Holes    []Hole    // frame only, ascending
	Cut      []Reading // cut out readings, hole by hole, without the values; nil on a task that was read back from disk
	Readings []Reading // input of operators; nil on a task that was read back from disk

	Nominal    int           // size in bytes of a question's task, which has no Data
	Complexity float64       // 0–100
	Deadline   time.Duration // from Received; 0 for no deadline

	Score  float64 // the policy's number in [0,1], once decided
	Policy string  // the policy that decided
}

// Hole is a place in a frame from which a value, or a run of readings, was cut.
type Hole struct {
	Resource string
	At       int      // offset in the frame's Data at which the value is to be inserted
	Length   int      // elements or bytes of the whole value, or readings
	Encoding Encoding // Text or Binary; a Binary hole in a JSON frame is filled with base64. JSON and CBOR are runs of readings; Raw is bytes of one
}

// unreduced holds the values that Reduce replaces.
type unreduced struct {
	class      *Class
	complexity float64
}

// Reduce turns the task into one of its class's reduced form. Its data stay unchanged.
func (t *Task) Reduce() {
	t.reduced = &unreduced{t.Class, t.Complexity}
	t.Class, t.Complexity = t.Class.Reduced, t.Class.Reduced.Complexity
}

// Restore undoes Reduce, if it was called. No other goroutine may hold the task.
func (t *Task) Restore() {
	if t.reduced != nil {
		t.Class, t.Complexity, t.reduced = t.reduced.class, t.reduced.complexity, nil
	}
}

// OwnClass is the class that the configuration gives the task: different from Class if it is reduced. A task keeps the order of its own class, and
// leaves under it.
func (t *Task) OwnClass() *Class {
	if t.reduced != nil {
		return t.reduced.class
	}
	return t.Class
}

// Size is the number of bytes of the task's data.
func (t *Task) Size() int { return max(len(t.Data), t.Nominal) }
