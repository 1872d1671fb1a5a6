package local

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// The event of an answer is the same wherever it was computed, except for the tag with the place.
func TestAnswersAreOneEventWhereverComputed(t *testing.T) {
	one := &task.Task{
		EventID: "e-1", Device: "pump-1", Profile: "Pump", Source: "state", CorrelationID: "c-1", Origin: 1750000000000000001, Of: 1,
		Class: &task.Class{Name: "vibration"},
	}
	made := models.Answer{Model: "bearing-cnn", Version: "1.4.0", Resource: "Vibration", Label: "worn", Confidence: 0.9, Threshold: 0.5, Error: 3, Anomaly: true}
	here, there := Answered(answer.Of(one, 1750000001000000000, answer.Local, made)), Answered(answer.Of(one, 1750000001000000000, answer.Cloud, made))
	require.Equal(t, "local", here.Event.Tags["computedBy"])
	require.Equal(t, "cloud", there.Event.Tags["computedBy"])
	here.Event.Tags["computedBy"] = "cloud"
	require.Equal(t, here, there)
	require.NoError(t, func() error { _, _, err := there.Encode(); return err }())

	require.Equal(t, "Vibration_bearing_cnn", there.Source)
	require.Equal(t, "c-1", there.CorrelationID)
	require.Equal(t, 1, there.Hop)
	require.Equal(t, int64(1750000000000000001), there.Event.Origin)
	values := map[string]string{}
	for i := range there.Event.Readings {
		r := &there.Event.Readings[i]
		values[r.ResourceName] = r.ValueType + " " + r.Value
	}
	require.Equal(t, map[string]string{
		"Vibration_bearing_cnn": "String worn", "Vibration_bearing_cnn_confidence": "Float64 0.9",
		"Vibration_bearing_cnn_error": "Float64 3", "Vibration_bearing_cnn_anomaly": "Bool true",
	}, values)
	for tag, want := range map[string]string{
		"class": "vibration", "originEventId": "e-1", "model": "bearing-cnn", "modelVersion": "1.4.0", "confidence": "0.9", "provisional": "false",
	} {
		require.Equal(t, want, there.Event.Tags[tag], tag)
	}
}

// The time of an answer is that of its event, in any unit, or that of its reception if the event's is invalid.
func TestTheTimeOfAnAnswer(t *testing.T) {
	const received = 1750000001000000000
	for _, c := range [][3]int64{
		{1750000000000000001, received, 1750000000000000001}, {1750000000000, received, 1750000000000000000}, {0, received, received}, {7, received, received}, {7, 0, 7},
	} {
		a := answer.Of(&task.Task{Origin: c[0], Of: 1}, c[1], answer.Local, models.Answer{Model: "m"})
		a.Received = c[1]
		require.Equal(t, c[2], Answered(a).Event.Origin, "%v", c)
	}
}

// Numbers keep their type: one is a value, several are an array.
func TestAnswersOfNumbers(t *testing.T) {
	one := &task.Task{EventID: "e", Device: "d", Profile: "p", Source: "s", Of: 1}
	of := func(values ...float64) map[string]string {
		r := Answered(answer.Of(one, 1750000001000000000, answer.Cloud, models.Answer{Model: "m", Version: "1", Resource: "r", Values: values}))
		require.Equal(t, int64(1750000001000000000), r.Event.Origin, "an event without a time has that of its reception")
		got := map[string]string{}
		for i := range r.Event.Readings {
			got[r.Event.Readings[i].ResourceName] = r.Event.Readings[i].ValueType + " " + r.Event.Readings[i].Value
		}
		return got
	}
	require.Equal(t, map[string]string{"r_m": "Float64 1.5"}, of(1.5))
	require.Equal(t, map[string]string{"r_m_values": "Float64Array [1, -2]"}, of(1, -2))
}
