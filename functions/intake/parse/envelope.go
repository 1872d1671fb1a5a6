package parse

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"

	"app-offload/functions/task"
)

// Envelope holds the fields of EdgeX's MessageEnvelope that intake uses.
type Envelope struct {
	CorrelationID []byte // within the message, or a copy
	ContentType   string
	ErrorCode     int // if not 0, the payload is an error message
	Payload       []byte
}

// envelopeDTO is for encoding/json if the fast path fails.
type envelopeDTO struct {
	APIVersion    string            `json:"apiVersion"`
	ReceivedTopic string            `json:"receivedTopic"`
	CorrelationID string            `json:"correlationID"`
	RequestID     string            `json:"requestID"`
	ErrorCode     int               `json:"errorCode"`
	Payload       []byte            `json:"payload"`
	ContentType   string            `json:"contentType"`
	QueryParams   map[string]string `json:"queryParams"`
}

// ParseEnvelope opens a message of the MQTT MessageBus. It accepts exactly the messages that EdgeX's own client accepts: a plain message is scanned,
// an unusual one goes to encoding/json. The caller owns the payload. A long payload is decoded within msg, which is then invalid; on error msg is
// unchanged. The error is a *RejectError.
func ParseEnvelope(msg []byte) (Envelope, error) {
	p := parsers.Get().(*parser)
	defer p.recycle()
	p.start(msg, 0, DefaultLimits().Depth)
	if env, ok := p.envelope(); ok && env.decode() {
		return env, nil
	}
	return slowEnvelope(msg)
}

// decodeWithin is the base64 length from which a payload is decoded in place: a message of the largest size takes as much memory as its event, and is
// kept until it is acknowledged.
const decodeWithin = 1 << 20

// decode decodes Payload, or leaves it unchanged if it is not base64.
func (e *Envelope) decode() bool {
	text := e.Payload
	if len(text) < decodeWithin {
		e.Payload = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(e.Payload, text)
		e.Payload = e.Payload[:n]
		return err == nil
	}
	// Decode by blocks through a buffer, since base64 does not promise to work in place. The first pass only checks.
	var block [4 << 10]byte
	var out [3 << 10]byte
	for _, keep := range []bool{false, true} {
		n := 0
		for at := 0; at < len(text); at += len(block) {
			size := copy(block[:], text[at:])
			k, err := base64.StdEncoding.Decode(out[:], block[:size])
			if err != nil || k < len(out) && at+size < len(text) { // a padding is at the end
				return false
			}
			if keep {
				copy(text[n:], out[:k])
			}
			n += k
		}
		e.Payload = text[:n:n]
	}
	return true
}

// Open reads the event in the envelope as Parse does, and sets its correlation id.
func (l Limits) Open(env *Envelope) (*task.Event, error) {
	return l.parse(env.Payload, env.ContentType, env.CorrelationID)
}

func slowEnvelope(msg []byte) (Envelope, error) {
	var dto envelopeDTO
	if err := json.Unmarshal(msg, &dto); err != nil {
		return Envelope{}, rejectJSON(err)
	}
	return Envelope{
		CorrelationID: []byte(dto.CorrelationID), ContentType: dto.ContentType,
		ErrorCode: dto.ErrorCode, Payload: dto.Payload,
	}, nil
}

// envelopeKinds are the types of an envelope's fields.
var envelopeKinds = map[reflect.Kind]string{
	reflect.Struct: "an object", reflect.String: "a string", reflect.Int: "a whole number", reflect.Slice: "base64 in a string", reflect.Map: "an object of strings",
}

func rejectJSON(err error) *RejectError {
	var kind *json.UnmarshalTypeError
	var corrupt base64.CorruptInputError
	switch {
	case errors.As(err, &kind):
		return Reject(ReasonWrongType, "envelope: %s must be %s, and is of type %s", cmp.Or(kind.Field, "the message"), envelopeKinds[kind.Type.Kind()], kind.Value)
	case errors.As(err, &corrupt):
		return Reject(ReasonEncoding, "envelope: payload: %v", err)
	}
	return Reject(ReasonMalformed, "envelope: %v", err)
}

// The names of an envelope, as bits of a set.
const (
	envAPIVersion = 1 << iota
	envReceivedTopic
	envCorrelationID
	envRequestID
	envErrorCode
	envPayload
	envContentType
)

// envelope scans a message. It returns false for anything invalid or unusual, and leaves the distinction to encoding/json.
func (p *parser) envelope() (Envelope, bool) {
	var env Envelope
	p.space()
	if !p.at('{') {
		return env, false
	}
	p.i++
	seen := 0
	for more := true; more; {
		p.space()
		key, ok := p.jsonKey()
		if !ok {
			return env, false
		}
		bit, ok := p.envelopeField(&env, p.b[key.start:key.end])
		if !ok || bit&seen != 0 {
			return env, false
		}
		seen |= bit
		if more, ok = p.next('}'); !ok {
			return env, false
		}
	}
	p.space()
	return env, p.i == len(p.b)
}

func (p *parser) envelopeField(env *Envelope, key []byte) (bit int, ok bool) {
	var text []byte
	switch string(key) {
	case "payload":
		ok = p.envelopePayload(env)
		return envPayload, ok
	case "errorCode":
		ok = p.at('0')
		p.i++
		return envErrorCode, ok
	case "apiVersion":
		_, ok = p.plainText()
		return envAPIVersion, ok
	case "receivedTopic":
		_, ok = p.plainText()
		return envReceivedTopic, ok
	case "correlationID":
		env.CorrelationID, ok = p.plainText()
		return envCorrelationID, ok
	case "requestID":
		_, ok = p.plainText()
		return envRequestID, ok
	case "contentType":
		text, ok = p.plainText()
		env.ContentType = names.get(text)
		return envContentType, ok
	}
	return 0, false
}

// plainText reads a string that needs no decoding.
func (p *parser) plainText() ([]byte, bool) {
	if !p.at('"') {
		return nil, false
	}
	s, ok := p.jsonString()
	return p.b[s.start:max(s.start, s.end)], ok && s.form == formPlain
}

// envelopePayload reads the payload, still in base64.
func (p *parser) envelopePayload(env *Envelope) (ok bool) {
	env.Payload, ok = p.plainText()
	return ok
}
