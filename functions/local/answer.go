package local

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"

	"app-offload/functions/answer"
	"app-offload/functions/task"
)

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
