package consume

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// item is an opened message: exactly one of batch, gone, confirmed and letter is set.
type item struct {
	message   *Message
	batch     *store.Batch
	gone      *store.Gone
	confirmed *store.Confirmed
	letter    *store.Letter
	records   int
	bytes     int
}

// node returns the node whose rows the message needs, "" for a message that could not be opened.
func (it *item) node() string {
	switch {
	case it.letter != nil:
		return ""
	case it.gone != nil:
		return it.gone.Node
	case it.confirmed != nil:
		return it.confirmed.Node
	}
	return it.batch.Node
}

// namesMax is the maximum length of names of nodes and epochs, which are indexed.
const namesMax = 512

// reasonsMax is the maximum length of a node's reason, which appears in tables and metrics.
const reasonsMax = 32

// errTopic marks a message whose content does not fit its topic.
var errTopic = errors.New("the content belongs to another node or kind than the topic")

// open opens a message. It never fails: an unreadable message becomes a letter.
func open(o *seal.Opener, m *Message) *item {
	if m.Cut > 0 {
		why := fmt.Sprintf("the message of %d bytes exceeds -max-message-mib and was not read", m.Cut)
		return &item{message: m, letter: letter(m, "too large", why)}
	}
	it, err := read(o, m.Topic, m.Payload)
	it.message, it.bytes = m, len(m.Payload)
	if err != nil {
		it.letter = letter(m, reason(err), err.Error())
		return it
	}
	if it.confirmed != nil {
		it.records = len(it.confirmed.Results) // each result is a statement of the transaction
	}
	if it.batch != nil {
		it.records, it.bytes = len(it.batch.Records), 0
		for i := range it.batch.Records {
			it.bytes += len(it.batch.Records[i].Raw)
		}
	}
	return it
}

// letter returns a dead letter with bounded texts.
func letter(m *Message, why, detail string) *store.Letter {
	topic := m.Topic
	if len(topic) > textMax {
		topic = bounded(topic, textMax) // not a valid topic; valid topics stay unchanged, for a retry
	}
	node, _ := splitTopic(topic)
	return &store.Letter{Topic: topic, Node: node, Reason: why, Detail: bounded(detail, textMax), Raw: m.Payload}
}

// checkNames rejects names that the tables cannot hold.
func checkNames(node, epoch string) error {
	for _, name := range []string{node, epoch} {
		if len(name) > namesMax || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return &seal.MalformedError{What: "name", Err: fmt.Errorf("%s is longer than %d bytes or has control characters", bounded(name, 64), namesMax)}
		}
	}
	return nil
}

// splitTopic splits offload/v1/{node}/{kind}/….
func splitTopic(topic string) (node, kind string) {
	rest, ok := strings.CutPrefix(topic, seal.TopicRoot)
	if !ok {
		return "", ""
	}
	node, rest, _ = strings.Cut(rest, "/")
	kind, _, _ = strings.Cut(rest, "/")
	return node, kind
}

// Open reads the bytes of a dead letter again, as a message or as a record of a batch. It returns their content as a group.
func Open(o *seal.Opener, l *store.Letter) (*store.Group, error) {
	if !l.IsRecord {
		it, err := read(o, l.Topic, l.Raw)
		if err != nil {
			return nil, err
		}
		return storable([]*item{it}, false), nil
	}
	t, err := task.Decode(l.Raw)
	if err != nil {
		return nil, err
	}
	epoch := l.Epoch
	if l.Reason == store.Conflict { // the place of the record is taken
		epoch = fmt.Sprintf("%s conflict-%x", l.Epoch, sha256.Sum256(l.Raw))[:len(l.Epoch)+len(" conflict-")+12]
	}
	b := &store.Batch{Node: l.Node, Epoch: epoch, Records: []store.Record{{Sequence: l.Sequence, Task: t, Raw: l.Raw}}}
	return &store.Group{Batches: []*store.Batch{b}}, nil
}

// read opens the message of a topic: a batch, a statement about gone records, or a confirmation of results.
func read(o *seal.Opener, topic string, payload []byte) (it *item, err error) {
	it = &item{}
	switch node, kind := splitTopic(topic); kind {
	case "batch":
		it.batch, err = openBatch(o, node, payload)
	case "gone":
		it.gone, err = openGone(o, node, payload)
	case "confirm":
		it.confirmed, err = openConfirmation(o, node, payload)
	default:
		err = errTopic
	}
	return it, err
}

func openBatch(o *seal.Opener, node string, payload []byte) (*store.Batch, error) {
	opened, err := o.Open(payload)
	if err != nil {
		return nil, err
	}
	if opened.Node != node {
		return nil, errTopic
	}
	b := &store.Batch{
		Node: node, Epoch: opened.Epoch, Session: opened.Session, Floor: opened.Floor, Records: make([]store.Record, len(opened.Tasks)),
	}
	if err := cmp.Or(checkNames(node, b.Epoch), inRange(b.Floor, b.Floor)); err != nil {
		return nil, err
	}
	for i, raw := range opened.Tasks {
		r := &b.Records[i]
		r.Sequence, r.Raw = opened.Sequences[i], raw
		if err := inRange(r.Sequence, r.Sequence); err != nil {
			return nil, err
		}
		if r.Task, err = task.Decode(raw); err != nil {
			r.Task, r.Problem = nil, bounded(err.Error(), textMax)
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
	if err := checkNames(node, opened.Epoch); err != nil {
		return nil, err
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

func openConfirmation(o *seal.Opener, node string, payload []byte) (*store.Confirmed, error) {
	opened, err := o.OpenConfirmation(payload)
	if err != nil {
		return nil, err
	}
	if opened.Node != node {
		return nil, errTopic
	}
	c := &store.Confirmed{Node: node}
	for _, r := range opened.Results {
		c.Results = append(c.Results, store.ConfirmedResult{ID: r.ID, Refused: bounded(r.Refused, textMax)})
	}
	return c, checkNames(node, "")
}

// fate returns the reason in its stored form. A node's reason must not pass for one of the store's own.
func fate(reason string) string {
	if !isShown(reason) {
		reason = bounded(reason, reasonsMax)
	}
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

// inRange checks that sequences are within the range of the databases, with room for a neighbour.
func inRange(first, last uint64) error {
	if first > last || last >= math.MaxInt64 {
		return &seal.MalformedError{What: "sequence", Err: errors.New("it is out of range")}
	}
	return nil
}

// reason returns the key by which a message that cannot be opened is counted.
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

// textMax is the maximum length of texts in dead letters and log lines: any client of the broker can make them as long as a message.
const textMax = 1024

// bounded returns text fit for storage and display: about most bytes, with each unprintable character escaped once. Printable text stays unchanged.
func bounded(text string, most int) string {
	if len(text) <= most && isShown(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if b.Len() >= most {
			return b.String() + "…"
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// Shown returns text fit for tables and terminals; see bounded.
func Shown(text string, most int) string { return bounded(text, most) }

func isShown(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
