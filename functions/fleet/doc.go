// Package fleet lets nodes learn from each other without any reading leaving a node.
//
// A Member, on a node that opts in, publishes statistics of its predictions and its bandit: sums over outcomes, by class and target. A Fleet, in the
// cloud, adds those of the other nodes and sends each node that sum. The node uses it as a prior that its own outcomes outweigh. Sums are exact: the
// prior is what one node would have learned from all outcomes.
//
// The influence of a contribution is bounded: it is checked, clipped to a norm, and replaces the previous one of its node. A part with fewer than a
// minimum number of other contributors is not published. With noise, the published sums of a round are (ε, δ)-differentially private for whole
// contributions. This does not hold towards the cloud itself, which sees each node's clipped statistics: the recent number of outcomes of a class,
// and the errors of the predictions.
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

// Config configures the learning together with other nodes. It may change while the service runs.
type Config struct {
	// Interval is the time between two statements of this node's statistics, "10s" to "24h"; each is answered with the statistics of the other nodes, if
	// enough of them take part. "" does not take part: nothing is sent, and no prior is used.
	Interval string
	// MinOutcomes is the number of outcomes of a class and target, 1–1000000, that this node must have had before it publishes their statistics.
	MinOutcomes int `within:"1 1000000"`
	// Weight is the number of own outcomes, 0.1–1000, that the statistics of other nodes count for. With that many own outcomes both count the same;
	// with more, those of other nodes count ever less.
	Weight float64 `within:"0.1 1000"`
	// Clip is the norm, 1–1000000, to which the statistics of each class and target are limited before they leave; it is about the number of outcomes
	// that they can represent.
	Clip float64 `within:"1 1e6"`
}

// DefaultConfig does not take part.
func DefaultConfig() Config { return Config{MinOutcomes: 50, Weight: 20, Clip: 20} }

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields("Federate", c)
	if c.Interval != "" {
		p.Duration("Interval", c.Interval, 10*time.Second, 24*time.Hour)
	}
	return p.Err()
}

// On reports whether the node takes part.
func (c Config) On() bool { return c.Interval != "" }

// statement is the body of a node's or the fleet's statement. Layout names the meaning of the numbers; different layouts never mix.
type statement struct {
	Layout string     `json:"layout"`
	Parts  pool.Parts `json:"parts,omitempty"`
	Nodes  int        `json:"nodes,omitempty"` // of the fleet: number of other contributors
	Last   int64      `json:"last,omitempty"`  // of the fleet: the stamp of the node's latest statement
	stamp  int64      // when it was made, ns since the Unix epoch
}

const (
	maxLayout = 256
	// MaxMessage bounds the message of a statement, in bytes: pool.MaxParts of the longest names and numbers take a quarter of it.
	MaxMessage = 1 << 20
)

// encode seals the message of a statement.
func encode(s *seal.Sealer, kind seal.NoteKind, node string, st *statement) ([]byte, error) {
	body, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("encoding a statement: %w", err)
	}
	return s.SealNote(nil, &seal.Note{Kind: kind, ID: fmt.Sprintf("%s-%d", node, st.stamp), Node: node, Created: time.Unix(0, st.stamp), Body: body})
}

// Refused is the error of a rejected statement. Reason is one of a few words by which refusals are counted.
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
	if len(st.Layout) > maxLayout || !check.Printable(st.Layout) || st.Nodes < 0 || st.Last < 0 || st.Last == math.MaxInt64 {
		return nil, refuse("malformed", "layout %.64q of %d nodes after %d", st.Layout, st.Nodes, st.Last)
	}
	if err := st.Parts.Check(); err != nil {
		return nil, &Refused{"impossible", err}
	}
	return st, nil
}
