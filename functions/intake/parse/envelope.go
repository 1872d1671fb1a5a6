package parse

import (
	"encoding/base64"
	"encoding/json"
	"errors"
)

// Envelope is the part of EdgeX's MessageEnvelope that matters here.
type Envelope struct {
	CorrelationID string
	RequestID     string
	ContentType   string
	ErrorCode     int // other than 0: the payload is an error message
	Payload       []byte
}

// envelopeDTO is read by encoding/json where the fast way gives up.
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

// ParseEnvelope opens a message of the MQTT MessageBus. It takes exactly what EdgeX's own client takes: a plain message
// is scanned, anything unusual in it goes to encoding/json. The payload is the caller's. The error is a *RejectError.
func ParseEnvelope(msg []byte) (Envelope, error) {
	p := parsers.Get().(*parser)
	defer p.recycle()
	p.start(msg, 0, DefaultLimits().Depth)
	if env, ok := p.envelope(); ok {
		return env, nil
	}
	return slowEnvelope(msg)
}

func slowEnvelope(msg []byte) (Envelope, error) {
	var dto envelopeDTO
	if err := json.Unmarshal(msg, &dto); err != nil {
		return Envelope{}, rejectJSON(err)
	}
	return Envelope{
		CorrelationID: dto.CorrelationID, RequestID: dto.RequestID, ContentType: dto.ContentType,
		ErrorCode: dto.ErrorCode, Payload: dto.Payload,
	}, nil
}

func rejectJSON(err error) *RejectError {
	var kind *json.UnmarshalTypeError
	var corrupt base64.CorruptInputError
	switch {
	case errors.As(err, &kind):
		return Reject(ReasonWrongType, "envelope: %v", err)
	case errors.As(err, &corrupt):
		return Reject(ReasonEncoding, "envelope: payload: %v", err)
	}
	return Reject(ReasonMalformed, "envelope: %v", err)
}

// The names of an envelope, as bits of what has been seen.
const (
	envAPIVersion = 1 << iota
	envReceivedTopic
	envCorrelationID
	envRequestID
	envErrorCode
	envPayload
	envContentType
)

// envelope scans a message. It is false for anything that is wrong or merely unusual, and leaves telling these apart to
// encoding/json.
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
		text, ok = p.plainText()
		env.CorrelationID = string(text)
		return envCorrelationID, ok
	case "requestID":
		text, ok = p.plainText()
		env.RequestID = string(text)
		return envRequestID, ok
	case "contentType":
		text, ok = p.plainText()
		env.ContentType = names.get(text)
		return envContentType, ok
	}
	return 0, false
}

// plainText takes a string that needs no decoding.
func (p *parser) plainText() ([]byte, bool) {
	if !p.at('"') {
		return nil, false
	}
	s, ok := p.jsonString()
	return p.b[s.start:max(s.start, s.end)], ok && s.form == formPlain
}

func (p *parser) envelopePayload(env *Envelope) bool {
	text, ok := p.plainText()
	if !ok {
		return false
	}
	env.Payload = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(env.Payload, text)
	env.Payload = env.Payload[:n]
	return err == nil
}
