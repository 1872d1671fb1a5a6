package feed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// Event is an EdgeX v3 Event DTO, in the field order of EdgeX's own services.
type Event struct {
	APIVersion string    `json:"apiVersion"`
	ID         string    `json:"id"`
	Device     string    `json:"deviceName"`
	Profile    string    `json:"profileName"`
	Source     string    `json:"sourceName"`
	Origin     int64     `json:"origin"`
	Readings   []Reading `json:"readings"`

	// Truth is not published; nil if the source has no ground truth.
	Truth *Truth `json:"-"`

	service string
}

// Reading is an EdgeX v3 BaseReading DTO: simple with a Value, or binary with a BinaryValue.
type Reading struct {
	ID          string `json:"id"`
	Origin      int64  `json:"origin"`
	Device      string `json:"deviceName"`
	Resource    string `json:"resourceName"`
	Profile     string `json:"profileName"`
	Type        string `json:"valueType"`
	Units       string `json:"units,omitempty"`
	BinaryValue []byte `json:"binaryValue,omitempty"`
	MediaType   string `json:"mediaType,omitempty"`
	Value       string `json:"value"`
}

// Topic is the topic on which a device service publishes the event, without the base prefix.
func (e *Event) Topic() string {
	return fmt.Sprintf("events/device/%s/%s/%s/%s", e.service, e.Profile, e.Device, e.Source)
}

// Request returns the event as an AddEventRequest.
func (e *Event) Request() ([]byte, error) {
	return json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		RequestID  string `json:"requestId"`
		Event      *Event `json:"event"`
	}{"v3", e.ID, e})
}

// Envelope wraps a payload as go-mod-messaging 3.1 does.
func Envelope(payload []byte, contentType, correlationID string) ([]byte, error) {
	return json.Marshal(struct {
		APIVersion    string `json:"apiVersion"`
		ReceivedTopic string `json:"receivedTopic"`
		CorrelationID string `json:"correlationID"`
		RequestID     string `json:"requestID"`
		ErrorCode     int    `json:"errorCode"`
		Payload       []byte `json:"payload"`
		ContentType   string `json:"contentType"`
	}{APIVersion: "v3", CorrelationID: correlationID, Payload: payload, ContentType: contentType})
}

// device is the common part of the events of one source.
type device struct {
	service, profile, name, source string
	rng                            *rand.Rand
}

// event creates an event with the given readings.
func (d *device) event(at time.Time, readings ...Reading) Event {
	origin := at.UnixNano()
	for i := range readings {
		r := &readings[i]
		r.ID, r.Origin, r.Device, r.Profile = d.uuid(), origin, d.name, d.profile
	}
	return Event{
		APIVersion: "v3", ID: d.uuid(), Device: d.name, Profile: d.profile, Source: d.source,
		Origin: origin, Readings: readings, service: d.service,
	}
}

// uuid draws a version 4 UUID from the seeded stream.
func (d *device) uuid() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], d.rng.Uint64())
	binary.LittleEndian.PutUint64(b[8:], d.rng.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuid.UUID(b).String()
}

// float formats a number as EdgeX does.
func float(resource, units string, v float64) Reading {
	return Reading{Resource: resource, Type: "Float64", Units: units, Value: fmt.Sprintf("%e", v)}
}
