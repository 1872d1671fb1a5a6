package answer

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models"
	"app-offload/functions/task"
)

func vibration() *task.Task {
	return &task.Task{
		EventID: "e-1", Device: "pump-1", Profile: "Pump", Source: "state", CorrelationID: "c-1", Origin: 1750000000000000001, Of: 1,
		Class: &task.Class{Name: "vibration"}, Lineage: task.Lineage{Hop: 1},
	}
}

func worn() models.Answer {
	return models.Answer{
		Model: "bearing", Version: "1.4.0", Variant: models.Cloud, Resource: "Vibration", Label: "worn", Index: 1, Confidence: 0.9,
		Scores: []float64{0.1, 0.9}, Logits: []float64{-1, 1}, Embedding: []float64{1, 2, 3},
	}
}

// An answer arrives unchanged, except for fields that only its producer needs.
func TestAnAnswerSurvivesTheWay(t *testing.T) {
	sent := Of(vibration(), 1750000000500000000, Cloud, worn())
	require.Equal(t, &Answer{
		EventID: "e-1", CorrelationID: "c-1", Device: "pump-1", Profile: "Pump", Source: "state", Class: "vibration", Origin: 1750000000000000001,
		Received: 1750000000500000000, Hop: 1, ComputedBy: Cloud, Inference: worn(),
	}, sent)
	require.Empty(t, Of(&task.Task{Chunk: 3}, 1, Local, worn()).Class)
	b, err := sent.Encode()
	require.NoError(t, err)
	require.NotContains(t, string(b), "embedding")
	got, err := Decode(b)
	require.NoError(t, err)
	want := *sent
	want.Inference.Logits, want.Inference.Embedding = nil, nil
	require.Equal(t, &want, got)
	require.Equal(t, sent.ID(), got.ID())
}

// The id is that of the task, wherever it is computed; a provisional answer has another one.
func TestTheIDFollowsFromTheTask(t *testing.T) {
	one := Of(vibration(), 1, Cloud, worn())
	other := Of(vibration(), 2, Local, models.Answer{Model: "bearing"})
	require.Equal(t, one.ID(), other.ID())
	distinct := map[string]bool{one.ID().String(): true}
	for _, change := range []func(*Answer){
		func(a *Answer) { a.Provisional = true }, func(a *Answer) { a.EventID = "e-2" }, func(a *Answer) { a.Chunk = 1 },
		func(a *Answer) { a.Origin++ }, func(a *Answer) { a.Device = "pump-2" }, func(a *Answer) { a.EventID, a.Device = "e-1pump", "-1" },
	} {
		a := *one
		change(&a)
		distinct[a.ID().String()] = true
	}
	require.Len(t, distinct, 7)
	// A node and a cloud of different releases must agree.
	require.Equal(t, "ebab0a11-daba-5a5e-a966-6a50672b5667", one.ID().String())
	provisional := *one
	provisional.Provisional = true
	require.Equal(t, "17f8d401-7f21-593d-a6b8-f5b1a7394103", provisional.ID().String())
}

// An answer that could not become an event is rejected at both ends.
func TestUnfitAnswersAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Answer){
		"eventId":            func(a *Answer) { a.EventID = "" },
		"device":             func(a *Answer) { a.Device = strings.Repeat("x", maxName+1) },
		"profile":            func(a *Answer) { a.Profile = "\xff" },
		"computedBy":         func(a *Answer) { a.ComputedBy = "elsewhere" },
		"hop":                func(a *Answer) { a.Hop = -1 },
		"inference.resource": func(a *Answer) { a.Inference.Resource = "" },
		"inference.version":  func(a *Answer) { a.Inference.Version = "" },
		"inference.values":   func(a *Answer) { a.Inference.Values = make([]float64, MaxValues+1) },
		"finite":             func(a *Answer) { a.Inference.Confidence = math.NaN() },
		"neither a label":    func(a *Answer) { a.Inference.Label = "" },
		"source":             func(a *Answer) { a.Source = "" },
		"class":              func(a *Answer) { a.Class = strings.Repeat("x", maxName+1) },
		"correlationId":      func(a *Answer) { a.CorrelationID = "\xff" },
		"inference.model":    func(a *Answer) { a.Inference.Model = "" },
		"inference.label":    func(a *Answer) { a.Inference.Label = strings.Repeat("x", maxName+1) },
		"chunk":              func(a *Answer) { a.Chunk = task.MaxTasks },
		"chunk = \"-1\"":     func(a *Answer) { a.Chunk = -1 },
		"hop = ":             func(a *Answer) { a.Hop = task.MaxHop + 1 },
		"as must the scores": func(a *Answer) { a.Inference.Scores = make([]float64, MaxValues+1) },
		"numbers must be":    func(a *Answer) { a.Inference.Scores = []float64{1, math.Inf(-1)} },
		"must be finite":     func(a *Answer) { a.Inference.Values = []float64{math.Inf(1)} },
		"bytes, at most":     func(a *Answer) { a.Inference.Variant = strings.Repeat("x", MaxBytes) },
	} {
		a := Of(vibration(), 1, Cloud, worn())
		change(a)
		_, err := a.Encode()
		require.ErrorContains(t, err, want)
	}
	for _, change := range []func(*Answer){
		func(a *Answer) { a.Device, a.Class, a.CorrelationID = strings.Repeat("x", maxName), "", "" },
		func(a *Answer) { a.Chunk, a.Hop = task.MaxTasks-1, task.MaxHop },
		func(a *Answer) { a.Chunk, a.Hop = 0, 0 },
		func(a *Answer) {
			a.Inference.Label, a.Inference.Values, a.Inference.Scores = "", make([]float64, MaxValues), make([]float64, MaxValues)
		},
	} {
		a := Of(vibration(), 1, Cloud, worn())
		change(a)
		b, err := a.Encode()
		require.NoError(t, err)
		same, err := Decode(b)
		require.NoError(t, err)
		require.Equal(t, a.ID(), same.ID())
	}
	for _, empty := range []func(*Answer){func(a *Answer) { a.Device = "" }, func(a *Answer) { a.Profile = "" }} {
		a := Of(vibration(), 1, Cloud, worn())
		empty(a)
		require.ErrorContains(t, a.Validate(), `= "": must be 1 to 512 bytes`)
	}
	full := Of(vibration(), 1, Cloud, worn())
	b, err := full.Encode()
	require.NoError(t, err)
	full.Inference.Variant += strings.Repeat("x", MaxBytes-len(b))
	b, err = full.Encode()
	require.NoError(t, err)
	require.Len(t, b, MaxBytes)
	_, err = Decode(b)
	require.NoError(t, err)
	_, err = Decode(append(b, ' '))
	require.ErrorContains(t, err, "at most")
	full.Inference.Variant += "x"
	_, err = full.Encode()
	require.ErrorContains(t, err, "at most")
	for want, text := range map[string]string{
		"unexpected end": `{"eventId":`, "eventId": `{}`, "at most": `{"x":"` + strings.Repeat("x", MaxBytes) + `"}`,
	} {
		_, err := Decode([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Of(vibration(), 1, Cloud, worn()).Encode()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if len(again) <= MaxBytes && err == nil {
			same, err := Decode(again)
			require.NoError(t, err)
			require.Equal(t, a.ID(), same.ID())
		}
	})
}
