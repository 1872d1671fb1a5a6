package local

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/google/uuid"

	"app-offload/functions/answer"
	"app-offload/functions/task"
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
	levels, name := topic, ""
	for range 4 { // service, profile, device and source
		slash := strings.LastIndexByte(levels, '/')
		if slash < 0 {
			return false
		}
		levels, name = levels[:slash], levels[slash+1:]
	}
	const own = common.EventsPublishTopic + "/device"
	if before, found := strings.CutSuffix(levels, own); !found || before != "" && !strings.HasSuffix(before, "/") {
		return false
	}
	name, err := url.PathUnescape(name)
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

// Answered makes the result of a model's answer. It is the same event wherever the answer was computed: the tag computedBy alone says
// where. Source and readings are named <resource>_<model>, as the results of operators are <resource>_<operator>:
//
//	Vibration_bearing              the label, or the only value
//	Vibration_bearing_confidence   of the label, 0 to 1
//	Vibration_bearing_error        the reconstruction error or score, where the model has a threshold for it,
//	Vibration_bearing_anomaly      and whether it reaches that
//	Vibration_bearing_values       of a model that gives several
//
// The ids of the event and its readings follow from the task, so an answer that is published twice is known as one.
func Answered(a *answer.Answer) Result {
	i := &a.Inference
	base := i.Resource + "_" + strings.ReplaceAll(i.Model, "-", "_")
	event := dtos.NewEvent(a.Profile, a.Device, base)
	id := a.ID()
	event.Id = id.String()
	event.Origin = cmp.Or(a.Origin, a.Received)
	if at, unit := inNS(a.Origin, a.Received); unit != "" {
		event.Origin = at
	} else if a.Received > 0 {
		event.Origin = a.Received
	}
	event.Tags = dtos.Tags{
		"class": a.Class, "originEventId": a.EventID, "model": i.Model, "modelVersion": string(i.Version),
		"computedBy": a.ComputedBy, "provisional": strconv.FormatBool(a.Provisional),
	}
	if i.Confidence > 0 {
		event.Tags["confidence"] = decimal(i.Confidence)
	}
	add := func(suffix string, typ task.ValueType, text string) {
		event.Readings = append(event.Readings, dtos.BaseReading{
			Id: uuid.NewSHA1(id, []byte(suffix)).String(), Origin: event.Origin, DeviceName: a.Device, ProfileName: a.Profile,
			ResourceName: base + suffix, ValueType: typ.String(), SimpleReading: dtos.SimpleReading{Value: text},
		})
	}
	if i.Label != "" {
		add("", task.String, i.Label)
	}
	if i.Confidence > 0 {
		add("_confidence", task.Float64, decimal(i.Confidence))
	}
	if i.Threshold > 0 {
		add("_error", task.Float64, decimal(i.Error))
		add("_anomaly", task.Bool, strconv.FormatBool(i.Anomaly))
	}
	switch {
	case len(i.Values) == 1 && i.Label == "":
		add("", task.Float64, decimal(i.Values[0]))
	case len(i.Values) > 0:
		texts := make([]string, len(i.Values))
		for n, v := range i.Values {
			texts[n] = decimal(v)
		}
		add("_values", task.Float64Array, "["+strings.Join(texts, ", ")+"]")
	}
	return Result{
		Event: event, Profile: a.Profile, Device: a.Device, Source: base, Class: a.Class, Operator: i.Model,
		CorrelationID: a.CorrelationID, Hop: a.Hop + 1,
	}
}
