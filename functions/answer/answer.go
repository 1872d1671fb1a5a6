// Package answer defines the answer of a model to one task, in one form for the node and the cloud.
//
// An Answer has all the data of its event on the bus (see local.Answered), so that a process that has never seen the task can publish an answer of
// the cloud. Its ID follows from the task alone: an answer that is published again after a crash has the same id, and so do its readings. A
// provisional answer and the final one that supersedes it have different ids.
//
// Package desk publishes the answers of the cloud.
package answer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/google/uuid"

	"app-offload/functions/check"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// ContentType marks the payload of a cloud's result as an Answer.
const ContentType = "application/vnd.app-offload.answer.v1+json"

// Places at which an answer is computed, the tag computedBy of its event.
const (
	Local = "local"
	Cloud = "cloud"
)

// The bounds of an answer.
const (
	MaxValues = models.MaxValues
	MaxBytes  = 1 << 20 // of an encoded answer
	maxName   = 512     // bytes
)

// Answer is the output of a model for a task. Encode writes it as JSON; functions/seal/FORMAT.md is the reference.
type Answer struct {
	EventID       string `json:"eventId"`
	Chunk         int    `json:"chunk,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
	Device        string `json:"device"`
	Profile       string `json:"profile"`
	Source        string `json:"source"`
	Class         string `json:"class"`
	Origin        int64  `json:"origin"`                // ns, set by the device service
	Received      int64  `json:"received"`              // ns since the Unix epoch, wall time of the node
	Hop           int    `json:"hop,omitempty"`         // of the event: the number of app-offloads that had computed on its data
	ComputedBy    string `json:"computedBy"`            // local or cloud
	Provisional   bool   `json:"provisional,omitempty"` // another answer supersedes it

	Inference models.Answer `json:"inference"`
}

// Of returns the answer to a task. received is the wall time at which the node received it, ns since the Unix epoch.
func Of(t *task.Task, received int64, computedBy string, inference models.Answer) *Answer {
	a := &Answer{
		EventID: t.EventID, Chunk: t.Chunk, CorrelationID: t.CorrelationID, Device: t.Device, Profile: t.Profile, Source: t.Source,
		Origin: t.Origin, Received: received, Hop: t.Lineage.Hop, ComputedBy: computedBy, Inference: inference,
	}
	if t.Class != nil {
		a.Class = t.Class.Name
	}
	return a
}

// namespace separates the ids from other UUIDs of this version.
var namespace = uuid.MustParse("6f6a5b0e-7d0a-5c0e-9d5b-2f3f0c7a41d2")

// ID is a UUID of version 5 that follows from the task, and from whether the answer is provisional.
func (a *Answer) ID() uuid.UUID {
	var b []byte
	for _, s := range []string{a.EventID, a.Device, a.Source} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendVarint(binary.AppendVarint(b, a.Origin), int64(a.Chunk))
	if a.Provisional {
		b = append(b, 1)
	}
	return uuid.NewSHA1(namespace, b)
}

// Encode writes an answer without logits and embedding, which only its producer needs. It fails where Decode would reject it.
func (a *Answer) Encode() ([]byte, error) {
	own := *a
	own.Inference.Logits, own.Inference.Embedding = nil, nil
	if err := own.Validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(&own)
	if err == nil && len(b) > MaxBytes {
		err = fmt.Errorf("it has %d bytes, at most %d are allowed", len(b), MaxBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding the answer to event %.64s: %w", a.EventID, err)
	}
	return b, nil
}

// Decode reads and checks an answer. Unknown members are skipped.
func Decode(b []byte) (*Answer, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("reading an answer: it has %d bytes, at most %d are allowed", len(b), MaxBytes)
	}
	a := &Answer{}
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	return a, nil
}

// Validate names every problem that prevents the answer from becoming an event.
func (a *Answer) Validate() error {
	p := check.In("")
	for _, n := range []struct {
		key, text string
		wanted    bool
	}{
		{"eventId", a.EventID, true},
		{"device", a.Device, true},
		{"profile", a.Profile, true},
		{"source", a.Source, true},
		{"class", a.Class, false},
		{"correlationId", a.CorrelationID, false},
		{"inference.resource", a.Inference.Resource, true},
		{"inference.model", a.Inference.Model, true},
		{"inference.version", string(a.Inference.Version), true},
		{"inference.label", a.Inference.Label, false},
	} {
		if n.wanted && n.text == "" || len(n.text) > maxName || !utf8.ValidString(n.text) {
			p.Addf(n.key, check.Cut(n.text, 64), "must be %s%d bytes of clean UTF-8", map[bool]string{true: "1 to ", false: "at most "}[n.wanted], maxName)
		}
	}
	p.OneOf("computedBy", check.Cut(a.ComputedBy, 64), Local, Cloud)
	check.Range(p, "chunk", a.Chunk, 0, task.MaxTasks-1)
	check.Range(p, "hop", a.Hop, 0, task.MaxHop)
	if len(a.Inference.Values) > MaxValues || len(a.Inference.Scores) > MaxValues {
		p.Addf("inference.values", len(a.Inference.Values), "must be at most %d numbers, as must the scores", MaxValues)
	}
	if !a.finite() {
		p.Add(errors.New("inference: its numbers must be finite"))
	}
	if a.Inference.Label == "" && len(a.Inference.Values) == 0 {
		p.Add(errors.New("inference: it has neither a label nor values"))
	}
	return p.Err()
}

func (a *Answer) finite() bool {
	i := &a.Inference
	for _, list := range [][]float64{{i.Confidence, i.Error, i.Threshold}, i.Values, i.Scores} {
		for _, v := range list {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return false
			}
		}
	}
	return true
}
