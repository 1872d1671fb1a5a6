package fleet

import (
	"math"
	"sync"
	"time"

	"app-offload/functions/pool"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// Learner is the learned state of a member. Its methods are safe for concurrent use.
type Learner interface {
	// Layout names the meaning of the numbers of Statistics.
	Layout() string
	Statistics(atLeast int64) pool.Parts
	// Prior replaces the statistics of other nodes; nil removes them.
	Prior(parts pool.Parts)
}

// Member takes part for a node. It does no I/O; send must not block. All methods are safe for concurrent use.
type Member struct {
	node    string
	sealer  *seal.Sealer
	opener  *seal.Opener
	learner Learner
	send    func(topic string, message []byte)
	log     say.Logger
	said    *say.Every

	mu    sync.Mutex
	cfg   Config
	next  time.Time // of the next statement
	rest  time.Time // of the next statement once the latest is answered
	stamp int64     // of the latest statement, ns; stamps are never reused
	part
}

// part is what belongs to one time of taking part.
type part struct {
	status Status
	first  int64 // stamp of the first statement, 0 before it
	last   int64 // stamp of the statement that the current fleet model answers
	model  int64 // stamp of that model
}

// Status is the state of a member.
type Status struct {
	Statements uint64 `json:"statements"` // sent
	Parts      int    `json:"parts"`      // in the latest statement
	Models     uint64 `json:"models"`     // of the fleet, accepted
	Refused    uint64 `json:"refused"`    // models rejected
	Nodes      int    `json:"nodes"`      // other nodes behind the latest model
	Believed   int    `json:"believed"`   // parts of the latest model
	Problem    string `json:"problem,omitempty"`
}

const (
	askAgain = 30 * time.Second // longest pause after an unanswered statement
	sayEvery = 10 * time.Minute
)

// NewMember returns a member that does not take part before Set.
func NewMember(node string, sealer *seal.Sealer, opener *seal.Opener, learner Learner, send func(topic string, message []byte), log say.Logger) *Member {
	return &Member{node: node, sealer: sealer, opener: opener, learner: learner, send: send, log: log, said: say.NewEvery(sayEvery)}
}

// Set adopts a valid configuration. One that does not take part drops the statistics of other nodes immediately.
func (m *Member) Set(cfg Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg == cfg {
		return
	}
	m.cfg, m.next, m.rest = cfg, time.Time{}, time.Time{}
	if !cfg.On() {
		m.learner.Prior(nil)
		m.part = part{}
	}
}

// Status returns the state of the member, nil if it does not take part.
func (m *Member) Status() *Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.cfg.On() {
		return nil
	}
	s := m.status
	return &s
}

// Tick sends a statement when one is due.
func (m *Member) Tick(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.cfg.On() || now.Before(m.next) {
		return
	}
	every, _ := time.ParseDuration(m.cfg.Interval) // validated
	m.next, m.rest = now.Add(min(every, askAgain)), now.Add(every)
	parts := m.learner.Statistics(int64(m.cfg.MinOutcomes))
	for name := range parts {
		if len(parts) > pool.MaxParts {
			delete(parts, name)
		}
	}
	parts = parts.Clip(m.cfg.Clip)
	m.stamp = max(now.UnixNano(), m.stamp+1)
	if m.first == 0 {
		m.first = m.stamp
	}
	msg, err := encode(m.sealer, seal.Learned, m.node, &statement{Layout: m.learner.Layout(), Parts: parts, stamp: m.stamp})
	if err != nil {
		m.complain(err)
		return
	}
	m.status.Statements++
	m.status.Parts = len(parts)
	m.send(seal.LearnedTopic(m.node), msg)
}

// Take accepts a message on the node's topic for the fleet's model.
func (m *Member) Take(message []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.cfg.On() {
		return
	}
	st, refused := decode(m.opener, seal.Fleet, m.node, message)
	switch {
	case refused != nil:
	case st.Layout != m.learner.Layout():
		refused = refuse("other layout", "it is of layout %q, and this node's is %q", st.Layout, m.learner.Layout())
	case m.first == 0 || st.Last < max(m.first, m.last) || st.Last == m.last && st.stamp <= m.model: // compares the answered statement first, as the cloud's clock may be set
		refused = refuse("replayed", "it is not newer than the current model, or answers no statement since the start")
	}
	if refused != nil {
		m.status.Refused++
		m.complain(refused)
		return
	}
	m.last, m.model, m.status.Problem = st.Last, st.stamp, ""
	switch {
	case st.Last <= m.stamp:
		m.next = m.rest
	case st.Last < math.MaxInt64: // the clock was set back, or this state is newer than the cloud's
		m.stamp = st.Last
	}
	m.learner.Prior(st.Parts.Weigh(m.cfg.Weight))
	m.status.Models++
	m.status.Nodes, m.status.Believed = st.Nodes, len(st.Parts)
}

func (m *Member) complain(err error) {
	m.status.Problem = err.Error()
	if n, due := m.said.Due(err.Error()); due {
		m.log.Warnf("federated learning: %v count=%d", err, n)
	}
}
