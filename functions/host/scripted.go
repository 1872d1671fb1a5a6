package host

import "sync/atomic"

// Scripted plays given states, for tests and for the lab: State stays where it is until Step is called, and the last
// state stays for ever. It is safe for concurrent use.
type Scripted struct {
	states []State
	at     atomic.Int64
}

// NewScripted plays the states in their order. Without any it plays one idle node whose link is down.
func NewScripted(states ...State) *Scripted {
	if len(states) == 0 {
		states = []State{{Cores: 1}}
	}
	return &Scripted{states: states}
}

// State is the state at the present step.
func (s *Scripted) State() *State {
	return &s.states[min(int(s.at.Load()), len(s.states)-1)]
}

// Step goes on to the next state and reports whether there was one.
func (s *Scripted) Step() bool {
	for {
		at := s.at.Load()
		if int(at) >= len(s.states)-1 {
			return false
		}
		if s.at.CompareAndSwap(at, at+1) {
			return true
		}
	}
}
