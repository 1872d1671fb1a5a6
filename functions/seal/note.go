package seal

import (
	"encoding/json"
	"time"
)

// Note is a small statement whose body is another room's: what a node has learned, what the fleet has, what tasks cost.
type Note struct {
	Kind    NoteKind
	ID      string
	Node    string // that it comes from or goes to
	Created time.Time
	Body    json.RawMessage // a JSON value
}

// NoteKind says what a note is about. A note of one kind never opens as another.
type NoteKind string

// The kinds of notes.
const (
	Learned NoteKind = "offload.learned.v1" // from a node, on LearnedTopic
	Fleet   NoteKind = "offload.fleet.v1"   // to a node, on FleetTopic
	Credit  NoteKind = "offload.credit.v1"  // to a node, on CreditTopic
)

// LearnedTopic is where a node says what it has learned.
func LearnedTopic(node string) string { return TopicRoot + node + "/learned" }

// FleetTopic is where a node receives what the fleet has learned.
func FleetTopic(node string) string { return TopicRoot + node + "/fleet" }

// CreditTopic is where a node receives prices and its balance.
func CreditTopic(node string) string { return TopicRoot + node + "/credit" }

func (k NoteKind) root() string {
	if k == Learned {
		return sourceNode
	}
	return sourceCloud
}

type noteBody struct {
	Node string          `json:"node"`
	Body json.RawMessage `json:"body"`
}

// SealNote appends the message of a note.
func (s *Sealer) SealNote(dst []byte, n *Note) ([]byte, error) {
	source := cloudSource(n.Node)
	if n.Kind == Learned {
		source = nodeSource(n.Node)
	}
	return s.state(dst, statement{string(n.Kind), n.ID, source, n.Node, n.Created}, noteBody{n.Node, n.Body})
}

// OpenNote verifies and reads a note of that kind. The caller compares the node with the topic's and reads the body.
func (o *Opener) OpenNote(kind NoteKind, msg []byte) (*Note, error) {
	var body noteBody
	e, created, err := o.receive(msg, string(kind), kind.root(), &body, &body.Node)
	if err != nil {
		return nil, err
	}
	return &Note{kind, e.attrs.get("id"), body.Node, created, body.Body}, nil
}
