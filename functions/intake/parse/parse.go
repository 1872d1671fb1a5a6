// Package parse parses events, and reports why bytes are not a valid event.
//
//	parser.go    one document: its position, its scratch memory, and the common part of JSON and CBOR; pooled, owned by one call
//	json.go      the members of an event in JSON, and the values that are checked and skipped
//	cbor.go      the same in CBOR
//	fields.go    the names that EdgeX knows, and a cache of names, shared by all calls
//	envelope.go  the message envelope of the bus
//
// Parse and ParseEnvelope do not block, keep no reference except to the given bytes, and never panic on any input; they are safe for concurrent use.
//
// An event must pass EdgeX's own validation (of its AddEventRequest), with one exception: the text of a value is not compared with its type, because
// a value is decoded on demand.
package parse

import (
	"fmt"
	"mime"
	"strings"

	"app-offload/functions/check"
	"app-offload/functions/task"
)

// The values of RejectError.Reason. They name counters, so they are few and stable.
const (
	ReasonMalformed     = "malformed"                // the bytes are not JSON, not CBOR, or have trailing data
	ReasonTooLarge      = "too_large"                // over the limit of bytes
	ReasonTooDeep       = "too_deep"                 // nested over the limit
	ReasonMissing       = "missing_field"            // a field EdgeX requires is absent, null, empty or zero
	ReasonWrongType     = "wrong_type"               // a field has a value of a wrong kind, or out of range
	ReasonValueType     = "bad_value_type"           // a reading's valueType is not one of EdgeX's
	ReasonEncoding      = "bad_encoding"             // text that is not UTF-8, or base64 that is not base64
	ReasonDuplicate     = "duplicate_field"          // one name twice in an object: readers would disagree on its value
	ReasonBadID         = "bad_id"                   // an id that is not a lower-case UUID
	ReasonContentType   = "unsupported_content_type" // neither JSON nor CBOR
	ReasonErrorEnvelope = "error_envelope"           // an envelope with an error message instead of data
	ReasonUnsendable    = "unsendable"               // a part of the event fits no message; see intake.Config.Unsendable
)

// RejectError is the reason why bytes are rejected as an event.
type RejectError struct {
	Reason string // one of the Reason words
	Detail string // for people: the field, the byte position, and the value found
	Size   int    // bytes of a message rejected unread; else 0
}

// Error returns the reason followed by the detail.
func (e *RejectError) Error() string { return "rejecting event: " + e.Reason + ": " + e.Detail }

// TooLargeToLeave returns the reason for quarantining an event with a part of size bytes, above the largest that fits a message.
func TooLargeToLeave(size, largest int) *RejectError {
	return Reject(ReasonUnsendable, "%d bytes of it cannot be split further, and at most %d fit a message of Seal.MaxMessageKiB and a record of the spool", size, largest)
}

// ContentType returns the content type of an event in an encoding.
func ContentType(of task.Encoding) string {
	if of == task.CBOR {
		return ContentTypeCBOR
	}
	return ContentTypeJSON
}

// Reject builds a RejectError. Arguments may be untrusted text: each is cut before it is quoted, which may turn one byte into four.
func Reject(reason, format string, args ...any) *RejectError {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = check.Cut(arg, maxQuoted)
		case []byte:
			args[i] = check.Cut(string(arg[:min(len(arg), maxQuoted+1)]), maxQuoted)
		case error:
			args[i] = check.Cut(arg.Error(), maxQuoted)
		}
	}
	return &RejectError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// maxQuoted is the number of bytes of untrusted text that a detail quotes.
const maxQuoted = 128

// The content types of EdgeX events.
const (
	ContentTypeJSON = "application/json"
	ContentTypeCBOR = "application/cbor"
)

// Limits bound one event.
type Limits struct {
	Bytes int // of a payload
	Depth int // of nested objects and arrays, the outermost included
}

// DefaultLimits are the limits of the default configuration.
func DefaultLimits() Limits { return Limits{Bytes: 16 << 20, Depth: 32} }

// Parse reads one event, bare or within an AddEventRequest. The event points into payload, which must not be changed afterwards. The error is a
// *RejectError.
func (l Limits) Parse(payload []byte, contentType string) (*task.Event, error) {
	return l.parse(payload, contentType, nil)
}

func (l Limits) parse(payload []byte, contentType string, correlation []byte) (*task.Event, error) {
	if len(payload) > l.Bytes {
		return nil, Reject(ReasonTooLarge, "payload of %d bytes, the limit is %d", len(payload), l.Bytes)
	}
	encoding := encodingOf(contentType)
	if encoding == 0 {
		return nil, Reject(ReasonContentType, "content type %q, supported are %s and %s", contentType, ContentTypeJSON, ContentTypeCBOR)
	}
	p := parsers.Get().(*parser)
	defer p.recycle()
	p.start(payload, encoding, l.Depth)
	ok := false
	if encoding == task.JSON {
		ok = p.jsonDocument()
	} else {
		ok = p.cborDocument()
	}
	if !ok {
		return nil, p.err
	}
	return p.event(correlation)
}

func encodingOf(contentType string) task.Encoding {
	switch contentType {
	case ContentTypeJSON:
		return task.JSON
	case ContentTypeCBOR:
		return task.CBOR
	}
	if !strings.Contains(contentType, ";") {
		return 0
	}
	// Parameters such as a charset are rare, so this path may be slow.
	if bare, _, err := mime.ParseMediaType(contentType); err == nil && !strings.Contains(bare, ";") {
		return encodingOf(bare)
	}
	return 0
}
