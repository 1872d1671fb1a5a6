// Package fleet lets nodes learn from each other without any reading leaving a node.
//
// A Member, on a node that opts in, publishes statistics of what its predictions and its bandit have learned: sums over outcomes, by class and target. A
// Fleet, in the cloud, adds those of the other nodes and sends each node that sum, which the node takes as a prior that its own outcomes outweigh.
// Sums are exact: the prior is what one node would have learned from the outcomes of all.
//
// What a contribution can do is bounded: it is checked, clipped to a norm, and replaces the earlier one of its node. A part that fewer than a number of
// other nodes contribute to is not published. With noise, what is published of a round is (ε, δ)-differentially private for whole contributions.
// It is not so for the cloud itself, which sees each node's clipped statistics: how many outcomes of a class a node had lately, and by how much its
// predictions were off.
package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/pool"
	"app-offload/functions/seal"
)

// Config says whether and how a node learns with others. It may change while the service runs.
type Config struct {
	// Interval is the time between two statements of what this node has learned, "10s" to "24h"; each is answered with what the other nodes
	// have learned, if enough of them take part. "" takes no part: nothing is said, and nothing is believed.
	Interval string
	// MinOutcomes is how many outcomes of a class and target, 1–1000000, this node must have seen before it says anything of them.
	MinOutcomes int `within:"1 1000000"`
	// Weight is how many outcomes of its own, 0.1–1000, what others have learned counts for. As many own ones count as much, and the more there are
	// beyond that, the less the others count.
	Weight float64 `within:"0.1 1000"`
	// Clip is the norm, 1–1000000, to which the statistics of each class and target are shortened before they leave; it is about how many
	// outcomes they can stand for.
	Clip float64 `within:"1 1e6"`
}

// DefaultConfig takes no part.
func DefaultConfig() Config { return Config{MinOutcomes: 50, Weight: 20, Clip: 20} }

// Validate reports every problem at once.
func (c Config) Validate() error {
	p := check.Fields("Federate", c)
	if c.Interval != "" {
		p.Duration("Interval", c.Interval, 10*time.Second, 24*time.Hour)
	}
	return p.Err()
}

// On reports whether the node takes part.
func (c Config) On() bool { return c.Interval != "" }

// statement is the body of what a node has learned, and of what the fleet has. Layout says what the numbers mean; different ones never mix.
type statement struct {
	Layout string     `json:"layout"`
	Parts  pool.Parts `json:"parts,omitempty"`
	Nodes  int        `json:"nodes,omitempty"` // of the fleet: how many others have contributed
	Last   int64      `json:"last,omitempty"`  // of the fleet: the stamp of the node's latest statement
	stamp  int64      // of itself: when it was made, ns since the Unix epoch
}

const (
	maxLayout = 256
	// MaxMessage bounds the message of a statement, in bytes: pool.MaxParts of the longest names and numbers take a quarter of it.
	MaxMessage = 1 << 20
)

// encode makes the message of a statement.
func encode(s *seal.Sealer, kind seal.NoteKind, node string, st *statement) ([]byte, error) {
	body, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("writing a statement of what was learned: %w", err)
	}
	return s.SealNote(nil, &seal.Note{Kind: kind, ID: fmt.Sprintf("%s-%d", node, st.stamp), Node: node, Created: time.Unix(0, st.stamp), Body: body})
}

// Refused says why a statement is not taken. Reason is one of a few words by which refusals are counted.
type Refused struct {
	Reason string
	Err    error
}

func (r *Refused) Error() string { return r.Reason + ": " + r.Err.Error() }
func (r *Refused) Unwrap() error { return r.Err }

func refuse(reason, format string, args ...any) *Refused {
	return &Refused{reason, fmt.Errorf(format, args...)}
}

// decode opens a statement of that kind on the topic of a node.
func decode(o *seal.Opener, kind seal.NoteKind, node string, message []byte) (*statement, *Refused) {
	n, err := o.OpenNote(kind, message)
	if err != nil {
		reason := "malformed"
		if errors.Is(err, seal.ErrForged) {
			reason = "forged"
		} else if _, unknown := errors.AsType[*seal.UnknownKeyError](err); unknown {
			reason = "unknown key"
		} else if _, large := errors.AsType[*seal.TooLargeError](err); large {
			reason = "too large"
		}
		return nil, &Refused{reason, err}
	}
	if n.Node != node {
		return nil, refuse("wrong node", "it is of node %.64q, on the topic of node %.64q", n.Node, node)
	}
	if y := n.Created.UTC().Year(); y < 1970 || y > 2261 {
		return nil, refuse("malformed", "its time is %v", n.Created)
	}
	st := &statement{stamp: n.Created.UnixNano()}
	if err := json.Unmarshal(n.Body, st); err != nil {
		return nil, &Refused{"malformed", err}
	}
	if st.Layout == "" || len(st.Layout) > maxLayout || !check.Printable(st.Layout) || st.Nodes < 0 || st.Last < 0 || st.Last == math.MaxInt64 {
		return nil, refuse("malformed", "layout %.64q of %d nodes after %d", st.Layout, st.Nodes, st.Last)
	}
	if err := st.Parts.Check(); err != nil {
		return nil, &Refused{"impossible", err}
	}
	return st, nil
}
