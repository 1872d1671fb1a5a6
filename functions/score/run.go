package score

import (
	"app-offload/functions/host"
	"app-offload/functions/task"
)

// Runs returns the measured time that one worker of this node takes for the model of a class, in seconds, or false if it is not known. It is called
// for each task and must be fast and safe for concurrent use.
type Runs func(class *task.Class) (seconds float64, ok bool)

// SetRuns sets the source of measured model times. It is called before the first task, and applies to all models made by With.
func (m *Model) SetRuns(r Runs) { m.runs = r }

// RunCycles is the work of a class's model in Mcycles: the work that the idle node does in the model's local time. It returns false if the class has
// no model or its time is not known.
func (m *Model) RunCycles(class *task.Class) (cycles float64, ok bool) {
	if class == nil || class.Model == "" || m.runs == nil {
		return 0, false
	}
	seconds, ok := m.runs(class)
	return between(seconds, 0, 1e6) * m.c.EdgeMcycles, ok
}

// ComplexityOf is the complexity, 0–100, at which so many bytes take so many Mcycles.
func (m *Model) ComplexityOf(size int, cycles float64) float64 {
	return between(cycles/(float64(max(size, 1))/KB*m.c.McyclesPerKB), 0, 100)
}

// ForModels returns the state that applies to a task for a model: its queue is that of the pool of models.
func (m *Model) ForModels(s *host.State) host.State {
	v := *s
	v.QueueTasks, v.QueueCycles = s.ModelTasks, between(s.ModelSeconds, 0, 1e9)*m.c.EdgeMcycles
	v.ModelTasks, v.ModelSeconds = 0, 0
	return v
}
