package local

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
)

// Result is what an operator found out, as an EdgeX event of the device whose readings it is about. Its source is
// <resource>_<operator>, its readings begin with the resource's name: names that rules can use without quoting, and
// that no resource of the device has already.
type Result struct {
	Event                   dtos.Event
	Profile, Device, Source string
	Class, Operator         string

	CorrelationID string // of the event that came last, as its envelope had it; "" where it had none
	Hop           int    // how many app-offloads have computed one after the other: 1 for a result of device data
}

// Publisher takes results. The workers call it concurrently; it blocks until the bus has the result, or says why not.
type Publisher interface{ Publish(Result) error }

// Topic is the topic below the MessageBus's base prefix on which core-data finds the result:
// events/device/<service>/<profile>/<device>/<source>.
//
// core-data 3.1 subscribes to events/device/# and to nothing else, and refuses an event whose last three levels are
// not those of its topic. So a service that subscribes to events/device/# as well receives its own results: OwnTopic
// recognises them. A name that would break a topic is escaped; core-data unescapes.
func (r Result) Topic(service string) string {
	return common.BuildTopic(common.EventsPublishTopic, "device",
		level(service), level(r.Profile), level(r.Device), level(r.Source))
}

// OwnTopic reports whether an event received on topic, with or without base prefix, is a result this service published.
// Who receives events drops these before anything else, or each result would make another.
func OwnTopic(topic, service string) bool {
	levels := topic
	for range 3 { // profile, device and source
		slash := strings.LastIndexByte(levels, '/')
		if slash < 0 {
			return false
		}
		levels = levels[:slash]
	}
	slash := strings.LastIndexByte(levels, '/')
	if slash < 0 {
		return false
	}
	const own = common.EventsPublishTopic + "/device"
	if before, found := strings.CutSuffix(levels[:slash], own); !found || before != "" && !strings.HasSuffix(before, "/") {
		return false
	}
	name, err := url.PathUnescape(levels[slash+1:])
	return err == nil && name == service
}

// Encode is the payload for the MessageBus, an AddEventRequest, and its content type.
func (r Result) Encode() (payload []byte, contentType string, err error) {
	request := requests.NewAddEventRequest(r.Event)
	payload, contentType, err = request.Encode()
	if err != nil {
		return nil, "", fmt.Errorf("encoding result %s of %s: %w", r.Source, r.Device, err)
	}
	return payload, contentType, nil
}

// safe are the characters EdgeX allows in names that become topics.
const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~:;="

func level(name string) string {
	if strings.Trim(name, safe) == "" {
		return name
	}
	for i := range len(name) {
		if !strings.Contains(safe, name[i:i+1]) {
			return common.URLEncode(name)
		}
	}
	return name
}
