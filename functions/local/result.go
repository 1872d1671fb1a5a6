package local

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/google/uuid"

	"app-offload/functions/answer"
	"app-offload/functions/task"
)

// Result is the output of an operator, as an EdgeX event of the device. Its source is <resource>_<operator>, and the names of its readings begin with
// the resource's name: rules can use these names without quotes, and no resource of the device has them.
type Result struct {
	Event                   dtos.Event
	Profile, Device, Source string
	Class, Operator         string

	CorrelationID string // of the latest event, as in its envelope; "" without one
	Hop           int    // number of app-offloads in the chain of computation: 1 for a result of device data

	Ending *Ending // of the task; a publisher that sends the result delays it until the result is durable
}

// Publisher publishes results. The workers call it concurrently. It blocks until the bus has the result or the attempt failed. The error
// wraps ErrAway if the bus accepts no results at all.
type Publisher interface{ Publish(Result) error }

// Ending is the end of a task, which a publisher delays until the task's results are durable while the worker continues with the next task. It is
// safe for concurrent use.
type Ending struct {
	report func(error)
	mu     sync.Mutex
	open   int
	ids    map[string]bool // of the results that delay it, or did
	err    error
}

// NewEnding returns the end of a task, which calls report once: after Done was called once more often than Delay, with the first error.
func NewEnding(report func(error)) *Ending {
	return &Ending{report: report, open: 1, ids: map[string]bool{}}
}

// Delay delays the report until one more call of Done, because of the result with this id. It returns false, and delays nothing, if that result was
// published before and is now tried again, or the task is over.
func (e *Ending) Delay(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == 0 || e.ids[id] {
		return false
	}
	e.open++
	e.ids[id] = true
	return true
}

// Done ends one delay, or the task itself. An error fails the task.
func (e *Ending) Done(err error) {
	e.mu.Lock()
	e.open--
	if e.err == nil {
		e.err = err
	}
	over := e.open == 0
	e.mu.Unlock()
	if over {
		e.report(e.err)
	}
}

// ErrAway means that the MessageBus is unavailable, so no result can be published at present.
var ErrAway = errors.New("the MessageBus is unavailable")

// Topic returns the topic on which core-data receives the result, below the MessageBus's base prefix:
// events/device/<service>/<profile>/<device>/<source>.
//
// core-data 3.1 subscribes only to events/device/#, and rejects an event whose last three levels are not those of its topic. A service that also
// subscribes to events/device/# receives its own results: OwnTopic recognises them. Characters that would break a topic are escaped; core-data unescapes them.
func (r Result) Topic(service string) string {
	return common.BuildTopic(common.EventsPublishTopic, "device",
		level(service), level(r.Profile), level(r.Device), level(r.Source))
}

// OwnTopic reports whether an event received on topic, with or without base prefix, is a result of this service. Receivers drop these events first:
// otherwise each result would cause another one.
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

// Encode returns the payload for the MessageBus, an AddEventRequest, and its content type.
func (r Result) Encode() (payload []byte, contentType string, err error) {
	request := requests.NewAddEventRequest(r.Event)
	payload, contentType, err = request.Encode()
	if err != nil {
		return nil, "", fmt.Errorf("encoding result %s of %s: %w", r.Source, r.Device, err)
	}
	return payload, contentType, nil
}

// safe is the set of characters that EdgeX allows in topic levels.
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

// Answered converts a model's answer to a result. The event is the same wherever the answer was computed; only the tag computedBy differs. Source and
// readings are named <resource>_<model>, as the results of operators are named <resource>_<operator>:
//
//	Vibration_bearing              the label, or the only value
//	Vibration_bearing_confidence   of the label, 0 to 1
//	Vibration_bearing_error        the reconstruction error or score, if the model has a threshold for it,
//	Vibration_bearing_anomaly      and whether it reaches the threshold
//	Vibration_bearing_values       the values of a model with several outputs
//
// The ids of the event and its readings are derived from the task, so duplicates of an answer have the same ids.
func Answered(a *answer.Answer) Result {
	i := &a.Inference
	base := i.Resource + "_" + strings.ReplaceAll(i.Model, "-", "_")
	event := dtos.NewEvent(a.Profile, a.Device, base)
	id := a.ID()
	event.Id = id.String()
	event.Origin = cmp.Or(a.Received, a.Origin)
	if at, unit := inNS(a.Origin, a.Received); unit != "" {
		event.Origin = at
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
