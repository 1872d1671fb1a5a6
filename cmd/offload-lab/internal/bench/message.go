package bench

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

// The events of the load come from a few devices, so that order per device and work per device are both in play.
const (
	devices     = 8
	serviceName = "bench-device-service"
	profile     = "Bench"
	source      = "Value"
)

// topics are where the devices' events are published.
func topics() [devices]string {
	var all [devices]string
	for i := range all {
		all[i] = fmt.Sprintf("edgex/events/device/%s/%s/%s/%s", serviceName, profile, deviceName(i), source)
	}
	return all
}

func deviceName(i int) string { return "bench-" + strconv.Itoa(i%devices) }

// appendID writes the event's number as a UUID, of which numberOf makes the number again.
func appendID(dst []byte, n int) []byte { return fmt.Appendf(dst, "%08x-0000-4000-8000-%012x", n, n) }

// numberOf is the number of an event by its id, or -1 for an event that is not of the load.
func numberOf(id string) int {
	if len(id) != 36 {
		return -1
	}
	n, err := strconv.ParseUint(id[24:], 16, 31)
	if err != nil || string(appendID(nil, int(n))) != id {
		return -1
	}
	return int(n)
}

// maker writes messages as a device service of EdgeX 3.1 does: an envelope with an AddEventRequest.
type maker struct {
	readings             int // of an event; 0 is one
	size                 int // bytes of the first reading's value, a string; 0 makes it a number
	id, payload, message []byte
}

// make writes the n-th message, which is valid until the next call.
func (m *maker) make(n int, at time.Time) []byte {
	m.id = appendID(m.id[:0], n)
	m.payload = fmt.Appendf(m.payload[:0], `{"apiVersion":"v3","requestId":"%[1]s","event":{"apiVersion":"v3","id":"%[1]s","deviceName":"%[2]s",`+
		`"profileName":"`+profile+`","sourceName":"`+source+`","origin":%[3]d,"readings":[`,
		m.id, deviceName(n), at.UnixNano())
	for i := range max(m.readings, 1) {
		m.reading(n, i, at)
	}
	m.payload = append(m.payload[:len(m.payload)-1], "]}}"...) // without the last comma
	m.message = append(m.message[:0], `{"apiVersion":"v3","receivedTopic":"","correlationID":"`...)
	m.message = append(m.message, m.id...)
	m.message = append(m.message, `","requestID":"","errorCode":0,"payload":"`...)
	m.message = base64.StdEncoding.AppendEncode(m.message, m.payload)
	m.message = append(m.message, `","contentType":"application/json"}`...)
	return m.message
}

// reading appends a reading and a comma. Only the first is called as the source is: its windows count the events.
func (m *maker) reading(n, i int, at time.Time) {
	resource := source
	if i > 0 {
		resource += strconv.Itoa(i)
	}
	m.payload = fmt.Appendf(m.payload, `{"id":"%s","origin":%d,"deviceName":"%s","resourceName":"%s","profileName":"`+profile+`",`,
		m.id, at.UnixNano(), deviceName(n), resource)
	if i > 0 || m.size == 0 {
		m.payload = fmt.Appendf(m.payload, `"valueType":"Float64","units":"Cel","value":"%e"},`, 20+float64(n%100)/10)
		return
	}
	m.payload = append(m.payload, `"valueType":"String","value":"`...)
	for at, state := 0, uint64(n); at < m.size; at += 16 { // digits that do not compress to nothing
		state = state*6364136223846793005 + 1442695040888963407
		m.payload = fmt.Appendf(m.payload, "%016x", state)
	}
	m.payload = append(m.payload, `"},`...)
}
