package local

import (
	"strings"
	"sync"

	"app-offload/functions/task"
)

// ReadsAll reports whether operators read everything in a task, so that local processing loses nothing: each reading has an operator, room for the
// operator's state (Config.MaxKeys), and a numeric value. ReadsAll reserves the place of a new resource. Array elements that are not numbers, such as
// NaN, are missing values, and no loss if at least one number is there. If the class drops unread values, one readable reading is enough.
//
// The size of a binary replaces it only if the user says so: if its class names operators, and the binary is the only reading or its resource is
// named by the class or by one of its operators.
func (p *Processor) ReadsAll(t *task.Task) bool { return p.ReadsAllBut(t, "") }

// ReadsAllBut is ReadsAll if a model reads one resource; "" means no resource. An operator that also reads the resource needs a place for it.
func (p *Processor) ReadsAllBut(t *task.Task, resource string) bool {
	if t.Class == nil {
		return false
	}
	g := glances.Get().(*glance)
	defer glances.Put(g)
	g.rules = p.rules.Load()
	g.event = eventOf(t)
	frame := len(t.Holes) > 0 && t.Class.Operators != ""
	read := frame && t.Cut == nil
	alone := t.Of == 1 && onlyBlobs(t.Readings)
	for i := range t.Readings {
		r := &t.Readings[i]
		switch class := g.rules.classOf(&g.event, t, r.Resource); {
		case g.reads(class, r, alone):
			if p.turnAway(g.rules, key{class.Name, t.Device, r.Resource}) {
				return false
			}
			read = true
		case resource != "" && r.Resource == resource:
			read = true
		case !class.DropUnread:
			return false
		}
	}
	for i := range t.Cut {
		r := &t.Cut[i]
		switch class := g.rules.classOf(&g.event, t, r.Resource); {
		case g.rules.readsType(class, r.Resource, r.Type, false):
			if r.Type == task.Blob && p.turnAway(g.rules, key{class.Name, t.Device, r.Resource}) {
				return false
			}
			read = read || frame
		case !class.DropUnread:
			return false
		}
	}
	return read
}

// InOrder reports whether an operator with a history processes a reading of the task, so that tasks of the device must be processed in order.
func (p *Processor) InOrder(t *task.Task) bool {
	r, ev := p.rules.Load(), eventOf(t)
	for _, readings := range [][]task.Reading{t.Readings, t.Cut} {
		for i := range readings {
			resource := readings[i].Resource
			for _, c := range r.plans[r.classOf(&ev, t, resource).Name] {
				if c.remembers && c.matches(resource) {
					return true
				}
			}
		}
	}
	return len(t.Holes) > 0
}

// glance is the scratch space of a check of a task.
type glance struct {
	rules  *rules
	event  task.Event
	values []float64
}

var glances = sync.Pool{New: func() any { return new(glance) }}

func (g *glance) reads(class *task.Class, r *task.Reading, alone bool) bool {
	if !g.rules.readsType(class, r.Resource, r.Type, alone) {
		return false
	}
	if r.Type == task.Blob {
		return true
	}
	var err error
	g.values, err = r.Floats(g.values[:0])
	return err == nil && anyFinite(g.values)
}

// readsType reports whether an operator of the class reads the resource with the type.
func (r *rules) readsType(class *task.Class, resource string, typ task.ValueType, alone bool) bool {
	for _, c := range r.plans[class.Name] {
		if !numeric(typ) || !c.matches(resource) {
			continue
		}
		if typ != task.Blob || class.Operators != "" && (alone || class.Match.Resource != "" || c.names()) {
			return true
		}
	}
	return false
}

// names reports whether the chain is for specific resources.
func (c *chain) names() bool {
	for _, glob := range c.resources {
		if strings.Trim(glob, "*") != "" {
			return true
		}
	}
	return false
}

// classOf returns the class that the resource would have in an event of its own: an event can contain readings of several classes, and a piece of an
// event that must not leave has the class of the whole event. A task in its reduced form has one class.
func (r *rules) classOf(ev *task.Event, t *task.Task, resource string) *task.Class {
	reduced := t.Class != nil && t.Class.Form
	if !reduced {
		if class := r.classes.ForResource(ev, resource); class != nil {
			return class
		}
	}
	if t.Class == nil {
		return &noClass
	}
	return t.Class
}

var noClass task.Class

// eventOf returns the properties of the task's event that classes match.
func eventOf(t *task.Task) task.Event {
	return task.Event{ID: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Origin: t.Origin, Lineage: t.Lineage}
}

func onlyBlobs(readings []task.Reading) bool {
	for i := range readings {
		if readings[i].Type != task.Blob {
			return false
		}
	}
	return true
}

func anyFinite(values []float64) bool {
	for _, v := range values {
		if v-v == 0 { // neither NaN nor infinite
			return true
		}
	}
	return false
}
