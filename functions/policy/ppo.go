package policy

import (
	"fmt"
	"math"
	"os"
	"syscall"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var ppoInfo = Info{
	Name:    "ppo",
	Summary: "Decides by a network that was trained in the simulator on the full cost of each decision, including the waiting of later tasks.",
	WhenNot: "Node, link or tasks differ from those of the training; cost then decides. Train it on your own recordings.",
}

// ppo asks a network with one output per target. Policy cost, which needs no training, decides inputs outside of the training, and everything while
// there are no weights.
type ppo struct {
	network  *Network
	file     string
	missing  error // why there is no network
	margin   float64
	fallback *cost
	pace     *Pace
}

func newPPO(c Config) Policy {
	p := &ppo{file: c.PPOWeights, margin: c.PPOMargin, fallback: costOf(c), pace: &Pace{}}
	p.network, p.missing = loadNetwork(c.PPOWeights)
	return p
}

// open opens a file of weights or a rule. It does not wait for the writer of a pipe, which would block the start or a reload: such a pipe is empty.
func open(file string) (*os.File, error) {
	return os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// loadNetwork reads a weights file and checks that it fits the inputs of this program.
func loadNetwork(file string) (*Network, error) {
	if file == "" {
		return nil, fmt.Errorf("no weights: PPOWeights is empty")
	}
	f, err := open(file)
	if err != nil {
		return nil, fmt.Errorf("opening weights: %w", err)
	}
	defer f.Close()
	n, err := ReadNetwork(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := n.Takes(InputNames[:]...); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if n.Outputs() != 2 {
		return nil, fmt.Errorf("%s: %d outputs; a decision needs 2, local and cloud", file, n.Outputs())
	}
	return n, nil
}

func (p *ppo) Name() string { return ppoInfo.Name }

// Decide uses the network's probability for the cloud as the score, and takes the likelier target.
func (p *ppo) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	if !p.pace.used.Load() {
		p.pace.used.Store(true)
	}
	return p.decide(t, e, s, p.pace.Note(t, s, p.fallback.patience))
}

// DecideAgain decides a task whose arrival is already counted.
func (p *ppo) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	return p.decide(t, e, s, p.pace.now())
}

func (p *ppo) decide(t *task.Task, e *score.Estimate, s *host.State, a Arrivals) decision.Decision {
	var x [NumInputs]float64
	Inputs(t, e, s, a, &x)
	if p.network == nil || !p.network.Known(x[:], p.margin) {
		d := p.fallback.decide(t, e, s, p.pace.tempo.beat(s.Time))
		d.Reason = decision.GuardOutside
		return d
	}
	var out [2]float64
	p.network.Forward(x[:], out[:])
	d := decision.Decision{Threshold: half, Propensity: 1, Score: 1 / (1 + math.Exp(out[decision.Local]-out[decision.Cloud])), Target: decision.Local, Reason: decision.CheaperLocal}
	if d.Score >= half {
		d.Target, d.Reason = decision.Cloud, decision.CheaperCloud
	}
	return p.fallback.predicted(e, s).settle(d)
}

// Arrived counts a task that another policy decides: it fills the same queues.
func (p *ppo) Arrived(t *task.Task, s *host.State) {
	if p.pace.used.Load() {
		p.pace.Note(t, s, p.fallback.patience)
	}
}

// Arrivals returns the arrivals counted so far.
func (p *ppo) Arrivals() Arrivals { return p.pace.now() }

// inherit continues with the arrivals counted by the previous ppo.
func (p *ppo) inherit(from Policy) {
	if old, ok := from.(*ppo); ok {
		p.pace = old.pace
	}
}

// arrival returns when the task was received; a task that was never received, as in an API request, arrives with the state.
func arrival(t *task.Task, s *host.State) int64 {
	if t.Received > 0 {
		return t.Received
	}
	return s.Time
}

func (p *ppo) String() string {
	if p.network == nil {
		return fmt.Sprintf("ppo: decides as cost, as there are %v", p.missing)
	}
	sizes := fmt.Sprint(len(p.network.Inputs))
	for _, l := range p.network.Layers {
		sizes += fmt.Sprintf("–%d", len(l.Bias))
	}
	return fmt.Sprintf("ppo: network %s of %s; outside of its training, %s", sizes, p.file, p.fallback)
}

// Pacer is a policy that counts the arrival of every task, also of those that it does not decide.
type Pacer interface {
	Arrived(t *task.Task, s *host.State)
	DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision // counts no new arrival
}

var (
	_ Pacer = (*ppo)(nil)
	_ heir  = (*ppo)(nil)
)
