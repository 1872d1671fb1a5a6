package local

import (
	"strings"
	"sync"

	"app-offload/functions/task"
)

// ReadsAll reports whether operators read everything in a task, so that it can be processed locally without a loss: each reading has
// an operator, for whose state there is room (Config.MaxKeys), and a value that is a number. A new resource takes its place here. Values of arrays that are no number, such as NaN, are missing values and no loss as long as one
// is there. Where a class drops what is unread, it is enough that one reading is read.
//
// The size of a binary stands for it only where the user says so: for a class that names its operators itself, and then for a binary
// that comes alone, or for a resource that the class or one of its operators names.
func (p *Processor) ReadsAll(t *task.Task) bool { return p.ReadsAllBut(t, "") }

// ReadsAllBut is ReadsAll where something else reads one resource, such as a model; "" names no resource. Operators that read it, too, need their place.
func (p *Processor) ReadsAllBut(t *task.Task, resource string) bool {
	if t.Class == nil {
		return false
	}
	g := glances.Get().(*glance)
	defer glances.Put(g)
	g.rules = p.rules.Load()
	g.event = eventOf(t)
	read := len(t.Holes) > 0 && t.Class.Operators != ""
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
		class := g.rules.classOf(&g.event, t, r.Resource)
		if !class.DropUnread && !g.rules.readsType(class, r.Resource, r.Type, false) {
			return false
		}
		if r.Type == task.Blob && p.turnAway(g.rules, key{class.Name, t.Device, r.Resource}) {
			return false
		}
	}
	return read
}

// InOrder reports whether an operator that keeps something of what it has seen works on a reading of the task: tasks of its device must then come
// in their order.
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

// glance is room for one look at a task.
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

// readsType reports whether an operator of the class reads a resource of the type.
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

// names reports whether the chain is for chosen resources.
func (c *chain) names() bool {
	for _, glob := range c.resources {
		if strings.Trim(glob, "*") != "" {
			return true
		}
	}
	return false
}

// classOf is the class of a resource, as if it had come alone: an event can hold readings of several, and a piece of one that must
// not leave carries the class of the whole. A task in its reduced form is of one class.
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

// eventOf is what classes match in the event that a task was cut from.
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
