package consume

import (
	"errors"
	"math"
	"strings"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// item is an opened message: one of batch, gone and letter is set.
type item struct {
	message *Message
	batch   *store.Batch
	gone    *store.Gone
	letter  *store.Letter
	records int
	bytes   int
}

// reasonsMax bounds the length of a reason that a node may give; it becomes part of the tables and of metrics.
const reasonsMax = 32

// errTopic marks a message whose content does not belong on its topic.
var errTopic = errors.New("its content is of another node or kind than its topic")

// open reads a message. It never fails: what cannot be read becomes a letter.
func open(o *seal.Opener, m *Message) *item {
	it := &item{message: m, bytes: len(m.Payload)}
	var err error
	it.batch, it.gone, err = read(o, m.Topic, m.Payload)
	if err != nil {
		node, _ := splitTopic(m.Topic)
		it.letter = &store.Letter{Topic: m.Topic, Node: node, Reason: reason(err), Detail: err.Error(), Raw: m.Payload}
		return it
	}
	if it.batch != nil {
		it.records, it.bytes = len(it.batch.Records), 0
		for i := range it.batch.Records {
			it.bytes += len(it.batch.Records[i].Raw)
		}
	}
	return it
}

// splitTopic takes offload/v1/{node}/{kind}/… apart.
func splitTopic(topic string) (node, kind string) {
	rest, ok := strings.CutPrefix(topic, seal.TopicRoot)
	if !ok {
		return "", ""
	}
	node, rest, _ = strings.Cut(rest, "/")
	kind, _, _ = strings.Cut(rest, "/")
	return node, kind
}

// Open reads the bytes of a dead letter anew, as they came on their topic or out of a batch.
func Open(o *seal.Opener, l *store.Letter) (*store.Batch, *store.Gone, error) {
	if l.IsRecord {
		t, err := task.Decode(l.Raw)
		if err != nil {
			return nil, nil, err
		}
		return &store.Batch{Node: l.Node, Epoch: l.Epoch, Records: []store.Record{{Sequence: l.Sequence, Task: t, Raw: l.Raw}}}, nil, nil
	}
	return read(o, l.Topic, l.Raw)
}

// read opens what a topic brings: a batch, or a statement of what is gone.
func read(o *seal.Opener, topic string, payload []byte) (batch *store.Batch, gone *store.Gone, err error) {
	switch node, kind := splitTopic(topic); kind {
	case "batch":
		batch, err = openBatch(o, node, payload)
	case "gone":
		gone, err = openGone(o, node, payload)
	default:
		err = errTopic
	}
	return batch, gone, err
}

func openBatch(o *seal.Opener, node string, payload []byte) (*store.Batch, error) {
	opened, err := o.Open(payload)
	if err != nil {
		return nil, err
	}
	if opened.Node != node {
		return nil, errTopic
	}
	b := &store.Batch{Node: node, Epoch: opened.Epoch, Floor: opened.Floor, Records: make([]store.Record, len(opened.Tasks))}
	if err := inRange(b.Floor, b.Floor); err != nil {
		return nil, err
	}
	for i, raw := range opened.Tasks {
		r := &b.Records[i]
		r.Sequence, r.Raw = opened.Sequences[i], raw
		if err := inRange(r.Sequence, r.Sequence); err != nil {
			return nil, err
		}
		if r.Task, err = task.Decode(raw); err != nil {
			r.Task, r.Problem = nil, err.Error()
		}
	}
	return b, nil
}

func openGone(o *seal.Opener, node string, payload []byte) (*store.Gone, error) {
	opened, err := o.OpenGone(payload)
	if err != nil {
		return nil, err
	}
	if opened.Node != node {
		return nil, errTopic
	}
	g := &store.Gone{Node: node, Epoch: opened.Epoch}
	for _, r := range opened.Ranges {
		if err := inRange(r.First, r.Last); err != nil {
			return nil, err
		}
		g.Spans = append(g.Spans, ranges.Span{First: r.First, Last: r.Last, Fate: fate(r.Reason)})
	}
	return g, nil
}

// fate is the reason as it is kept: a node's word must not pass for one of the store's own.
func fate(reason string) string {
	switch {
	case reason == "":
		return "unexplained"
	case reason == store.Stored || reason == store.Dead:
		return "node: " + reason
	case len(reason) > reasonsMax:
		return strings.ToValidUTF8(reason[:reasonsMax], "")
	}
	return reason
}

// inRange holds sequences within what databases count to, with room for a neighbour.
func inRange(first, last uint64) error {
	if first > last || last >= math.MaxInt64 {
		return &seal.MalformedError{What: "sequence", Err: errors.New("it is out of range")}
	}
	return nil
}

// reason is the word by which a message that cannot be opened is counted.
func reason(err error) string {
	var unknown *seal.UnknownKeyError
	var large *seal.TooLargeError
	switch {
	case errors.As(err, &unknown):
		return "unknown key"
	case errors.Is(err, seal.ErrForged):
		return "forged"
	case errors.As(err, &large):
		return "too large"
	case errors.Is(err, errTopic):
		return "wrong topic"
	}
	return "malformed"
}
