package models

import (
	"fmt"
	_ "image/jpeg" // decoders
	_ "image/png"
	"math"

	"app-offload/functions/check"
	"app-offload/functions/engine"
)

// Kinds of output.
const (
	Classes        = "classes"        // an autoencoder's reconstruction of the input; the answer is its error
	Reconstruction = "reconstruction" // the input as an autoencoder sees it; the error is the answer
	Score          = "score"          // one value; a higher value is more unusual
	Values         = "values"         // unchanged numbers
)

// MaxValues is the maximum number of values in an answer.
const MaxValues = 4096

// Output defines the meaning of a model's outputs.
type Output struct {
	Kind   string `json:"kind"`             // classes, reconstruction, score or values
	Tensor int    `json:"tensor,omitempty"` // index of the output
	// Activation converts the output to probabilities of classes: softmax of logits, sigmoid of one logit (two labels) or of each logit, or none if
	// the model already applies it.
	Activation string `json:"activation,omitempty"`
	// Temperature calibrates the confidence (Guo et al., On Calibration of Modern Neural Networks, 2017): logits are divided by it. If the model
	// returns probabilities, their logarithms are the logits. 0 means 1.
	Temperature float64 `json:"temperature,omitempty"`
	// Threshold is the error or score from which on an answer is an anomaly. It is required for reconstruction and score.
	Threshold float64 `json:"threshold,omitempty"`
	// Embedding is the output, counted from 1, that is watched for drift; 0 means no output.
	Embedding int `json:"embedding,omitempty"`
}

func (o *Output) validate(p *check.Problems, labels int) {
	p.OneOf("output.kind", cut(o.Kind), Classes, Reconstruction, Score, Values)
	if o.Activation != "" {
		p.OneOf("output.activation", cut(o.Activation), "none", "softmax", "sigmoid")
	}
	check.Range(p, "output.tensor", o.Tensor, 0, maxTensors-1)
	check.Range(p, "output.embedding", o.Embedding, 0, maxTensors)
	check.Range(p, "output.temperature", o.Temperature, 0, 1000)
	check.Range(p, "output.threshold", o.Threshold, 0, 1e12)
	if o.Kind == Classes && labels < 2 {
		p.Addf("labels", labels, "must be at least 2 for classes")
	}
	if (o.Kind == Reconstruction || o.Kind == Score) && o.Threshold == 0 {
		p.Addf("output.threshold", o.Threshold, "must be above 0 for %s", o.Kind)
	}
}

// fits compares the output's definition with the tensors.
func (o *Output) fits(m *Manifest, info *engine.Info) error {
	if o.Tensor >= len(info.Outputs) || o.Embedding > len(info.Outputs) {
		return fmt.Errorf("the manifest names output %d, the model has %d", max(o.Tensor, o.Embedding-1), len(info.Outputs))
	}
	for _, at := range []int{o.Tensor, o.Embedding - 1} {
		if at >= 0 && !supported(info.Outputs[at].Type) {
			return fmt.Errorf("output %s: its type is not supported", &info.Outputs[at])
		}
	}
	out := &info.Outputs[o.Tensor]
	if n := out.Elements(); n > maxElements || !o.counts(n, len(m.Labels), info.Inputs[0].Elements()) {
		return fmt.Errorf("output %s does not fit the kind %s with %d labels and %d inputs", out, o.Kind, len(m.Labels), info.Inputs[0].Elements())
	}
	return nil
}

// counts reports whether the number of values fits the definition. One value is enough for two labels, but not with softmax.
func (o *Output) counts(n, labels, inputs int) bool {
	switch o.Kind {
	case Classes:
		return n == labels || n == 1 && labels == 2 && o.Activation != "softmax"
	case Score:
		return n == 1
	case Reconstruction:
		return n == inputs
	}
	return n > 0 && n <= MaxValues
}

// read converts the outputs of a run to an answer.
func (o *Output) read(a *Answer, m *Manifest, s engine.Session) error {
	out := s.Outputs()[o.Tensor]
	values := make([]float64, out.Elements())
	for i := range values {
		values[i] = get(out, i)
		if math.IsNaN(values[i]) || math.IsInf(values[i], 0) {
			return fmt.Errorf("output %s: element %d is %v", &out.Spec, i, values[i])
		}
	}
	if !o.counts(len(values), len(m.Labels), s.Inputs()[0].Elements()) {
		return fmt.Errorf("output %s changed its shape in the run", &out.Spec)
	}
	switch o.Kind {
	case Classes:
		o.classes(a, m.Labels, values)
	case Reconstruction:
		o.anomaly(a, reconstructionError(s.Inputs()[0], values))
	case Score:
		o.anomaly(a, values[0])
	default:
		a.Values = values
	}
	if o.Embedding > 0 {
		from := s.Outputs()[o.Embedding-1]
		a.Embedding = make([]float64, from.Elements())
		for i := range a.Embedding {
			a.Embedding[i] = get(from, i)
		}
	}
	return nil
}

// get returns a real value of a tensor.
func get(t *engine.Tensor, i int) float64 {
	var q float64
	switch t.Type {
	case engine.Float32:
		return float64(t.F32[i])
	case engine.Int8:
		q = float64(t.I8[i])
	case engine.Uint8:
		q = float64(t.U8[i])
	case engine.Int16:
		q = float64(t.I16[i])
	}
	if t.Scale == 0 {
		return q
	}
	return float64(t.Scale * float32(q-float64(t.Zero)))
}

func (o *Output) anomaly(a *Answer, e float64) {
	a.Error, a.Threshold, a.Anomaly, a.Label = e, o.Threshold, e >= o.Threshold, "normal"
	if a.Anomaly {
		a.Label = "anomaly"
	}
}

// reconstructionError returns the mean squared difference, in the units of the model's real input.
func reconstructionError(in *engine.Tensor, values []float64) float64 {
	sum := 0.
	for i, v := range values {
		d := get(in, i) - v
		sum += d * d
	}
	return sum / float64(len(values))
}

// classes sets label, confidence and probabilities.
func (o *Output) classes(a *Answer, labels []string, values []float64) {
	a.Logits = o.logits(values)
	a.Scores = make([]float64, len(a.Logits))
	temperature := o.Temperature
	if temperature == 0 {
		temperature = 1
	}
	if o.each() {
		for i, v := range a.Logits {
			a.Scores[i] = 1 / (1 + math.Exp(-v/temperature))
		}
	} else {
		softmax(a.Scores, a.Logits, temperature)
	}
	for i, p := range a.Scores {
		if p > a.Confidence || i == 0 {
			a.Index, a.Confidence = i, p
		}
	}
	a.Label = labels[a.Index]
}

// each reports whether labels are independent of each other.
func (o *Output) each() bool { return o.Activation == "sigmoid" }

// logits returns the values before softmax. A single value belongs to the second of two labels.
func (o *Output) logits(values []float64) []float64 {
	const least = 1e-12 // a quantised probability may be 0
	list := make([]float64, len(values))
	for i, v := range values {
		if list[i] = v; o.Activation == "" || o.Activation == "none" {
			list[i] = math.Log(min(max(v, least), 1))
		}
	}
	if len(values) == 1 {
		second := values[0]
		if o.each() {
			return []float64{-second, second}
		}
		return []float64{math.Log(min(max(1-second, least), 1)), list[0]}
	}
	return list
}

func softmax(dst, logits []float64, temperature float64) {
	most, sum := math.Inf(-1), 0.
	for _, v := range logits {
		most = max(most, v)
	}
	for i, v := range logits {
		dst[i] = math.Exp((v - most) / temperature)
		sum += dst[i]
	}
	for i := range dst {
		dst[i] /= sum
	}
}
