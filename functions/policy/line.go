package policy

import (
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Line sums up the parked work by class. From it follows the work ahead of a task parked behind it: all parked tasks of its own class, since they may
// have to keep their order, and those of other classes that a free server takes earlier, by the keys of its lane. It belongs to its caller.
type Line struct {
	patience float64
	classes  []Portion
}

// Portion is the parked work of one class. Portions can be added up.
type Portion struct {
	class     string
	queue     int
	tasks     float64
	deadlines float64 // s
	Cycles    float64 // Mcycles
	Bytes     float64 // of data
}

// Line returns an empty line for the tasks in this room.
func (r Room) Line() Line { return Line{patience: r.patience} }

// Portion returns the portion of one task of so many Mcycles.
func (l *Line) Portion(t *task.Task, cycles float64) Portion {
	p := Portion{queue: queueOf(t), tasks: 1, deadlines: t.Deadline.Seconds(), Cycles: cycles, Bytes: float64(t.Size())}
	if class := t.OwnClass(); class != nil {
		p.class = class.Name
	}
	if p.deadlines <= 0 {
		p.deadlines = l.patience
	}
	return p
}

// Clone returns an independent copy.
func (l *Line) Clone() Line { return Line{l.patience, slices.Clone(l.classes)} }

// Add parks p.
func (l *Line) Add(p Portion) { l.change(p, 1) }

// Remove removes p, which must equal the portion added.
func (l *Line) Remove(p Portion) { l.change(p, -1) }

func (l *Line) change(p Portion, by float64) {
	at := slices.IndexFunc(l.classes, p.alike)
	if at < 0 {
		at = len(l.classes)
		l.classes = append(l.classes, Portion{class: p.class, queue: p.queue})
	}
	sum := &l.classes[at]
	sum.tasks, sum.deadlines, sum.Cycles, sum.Bytes = sum.tasks+by*p.tasks, sum.deadlines+by*p.deadlines, sum.Cycles+by*p.Cycles, sum.Bytes+by*p.Bytes
	if sum.tasks == 0 {
		l.classes = slices.Delete(l.classes, at, at+1) // and the rounding errors with it
	}
}

func (p Portion) alike(q Portion) bool { return p.class == q.class && p.queue == q.queue }

// key is the key of a berth (see lane) for the mean task.
func (p *Portion) key(server decision.Target) float64 {
	if server == decision.Cloud {
		return (p.Bytes/p.tasks + score.KB/2) * p.deadlines / p.tasks
	}
	return p.Cycles / p.tasks * p.deadlines / p.tasks
}

// Total returns the sum of all parked work.
func (l *Line) Total() (sum Portion) {
	for i := range l.classes {
		sum.Cycles, sum.Bytes = sum.Cycles+l.classes[i].Cycles, sum.Bytes+l.classes[i].Bytes
	}
	return sum
}

// Before returns the parked work ahead of a task that would take this server. A task that is not parked itself overtakes the other classes.
func (l *Line) Before(p *Portion, server decision.Target, parked bool) (sum Portion) {
	for i := range l.classes {
		c := &l.classes[i]
		passed := !parked || server == decision.Local && c.queue != p.queue || c.key(server) > p.key(server)
		if c.class == p.class || !passed {
			sum.Cycles, sum.Bytes = sum.Cycles+c.Cycles, sum.Bytes+c.Bytes
		}
	}
	return sum
}
