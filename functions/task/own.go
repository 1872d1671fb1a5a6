package task

import (
	"bytes"
	"slices"
	"strings"
)

// Own returns a copy of the task that the caller may keep for long: it shares memory only with record, which Append wrote for this task, and with its
// class. The task itself points into all of the event that it was split from.
func (t *Task) Own(record []byte) *Task {
	own := *t
	for _, s := range []*string{&own.EventID, &own.Device, &own.Profile, &own.Source, &own.Resource, &own.CorrelationID, &own.Lineage.Node, &own.Lineage.Service} {
		*s = strings.Clone(*s)
	}
	if stored, err := Decode(record); err == nil && len(stored.Data) == len(t.Data) {
		own.Data = stored.Data
	} else {
		own.Data = bytes.Clone(t.Data)
	}
	own.Holes, own.Cut, own.Readings = slices.Clone(t.Holes), slices.Clone(t.Cut), slices.Clone(t.Readings)
	for i := range own.Cut {
		own.Cut[i].Resource = strings.Clone(own.Cut[i].Resource)
	}
	for i := range own.Holes {
		own.Holes[i].Resource = strings.Clone(own.Holes[i].Resource)
	}
	for i := range own.Readings {
		own.Readings[i].own(t.Data, own.Data)
	}
	return &own
}

// own moves the reading's value to the new position of the task's data, if it is a part of them.
func (r *Reading) own(was, now []byte) {
	r.Resource, r.Units, r.MediaType = strings.Clone(r.Resource), strings.Clone(r.Units), strings.Clone(r.MediaType)
	for _, at := range [...]int{0, r.Start} { // a chunk is its value; in a whole event it is at Start
		if end := at + len(r.Value); len(r.Value) > 0 && end <= len(was) && &was[at] == &r.Value[0] {
			r.Value = now[at:end:end]
			return
		}
	}
	r.Value = bytes.Clone(r.Value)
}
