package seal

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"
)

// receiptBody, goneBody and resultBody are the payloads of the small messages, always JSON and never compressed. Ranges stay raw until they are
// counted: three bytes of JSON would become sixteen or more in memory.
type receiptBody struct {
	Node      string          `json:"node"`
	Epoch     string          `json:"epoch"`
	Session   string          `json:"session,omitempty"`
	Safe      json.RawMessage `json:"safe"`
	Gaps      json.RawMessage `json:"gaps"`
	Conflicts json.RawMessage `json:"conflicts,omitempty"`
	Limits    *ConsumerLimits `json:"limits,omitempty"`
}

type goneBody[R []goneRange | json.RawMessage] struct {
	Node   string `json:"node"`
	Epoch  string `json:"epoch"`
	Ranges R      `json:"ranges"`
}

type announcementBody struct {
	Consumer string         `json:"consumer"`
	Limits   ConsumerLimits `json:"limits"`
}

type goneRange struct {
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Reason string `json:"reason"`
}

type resultBody struct {
	Node        string    `json:"node"`
	EventID     string    `json:"eventId"`
	Chunk       int       `json:"chunk"`
	Completed   time.Time `json:"completed"`
	OK          bool      `json:"ok"`
	Error       string    `json:"error,omitempty"`
	ContentType string    `json:"contentType,omitempty"`
	Payload     []byte    `json:"payload,omitempty"`
}

// MarshalJSON writes [first, last].
func (r Range) MarshalJSON() ([]byte, error) { return json.Marshal([2]uint64{r.First, r.Last}) }

// UnmarshalJSON reads the output of MarshalJSON, if it is a valid range.
func (r *Range) UnmarshalJSON(b []byte) error {
	var ends [2]uint64
	n := 0
	err := eachElement(b, func(raw json.RawMessage) error {
		if n == len(ends) {
			return malformedf("range", "%s is not [first, last]", b)
		}
		n++
		return json.Unmarshal(raw, &ends[n-1])
	})
	if err != nil {
		return err
	}
	if n != len(ends) || ends[0] > ends[1] {
		return malformedf("range", "%s is not [first, last]", b)
	}
	r.First, r.Last = ends[0], ends[1]
	return nil
}

// Len returns the number of sequences in the range.
func (r Range) Len() uint64 { return r.Last - r.First + 1 }

// SealReceipt appends the message of a receipt, to be published on ReceiptTopic(r.Node).
func (s *Sealer) SealReceipt(dst []byte, r *Receipt) ([]byte, error) {
	body := receiptBody{Node: r.Node, Epoch: r.Epoch, Session: r.Session, Safe: rawRanges(r.Safe), Gaps: rawRanges(r.Gaps)}
	if len(r.Conflicts) > 0 {
		body.Conflicts = rawRanges(r.Conflicts)
	}
	if r.Limits != (ConsumerLimits{}) {
		body.Limits = &r.Limits
	}
	return s.state(dst, statement{typeReceipt, r.ID, cloudSource(r.Node), r.Node, r.Created}, body)
}

// SealAnnouncement appends the message by which a consumer announces its subscription, to be published with QoS 1, not retained, on AnnouncementTopic
// after each SUBACK.
func (s *Sealer) SealAnnouncement(dst []byte, a *Announcement) ([]byte, error) {
	return s.state(dst, statement{typeAnnouncement, a.ID, consumerSource(a.Consumer), a.Consumer, a.Created},
		announcementBody{a.Consumer, a.Limits})
}

// consumerSource returns the source attribute of a consumer's messages to all nodes.
func consumerSource(consumer string) string { return sourceConsumer + url.PathEscape(consumer) }

// SealGone appends the message by which a node reports ranges as gone, to be published on GoneTopic(g.Node).
func (s *Sealer) SealGone(dst []byte, g *Gone) ([]byte, error) {
	ranges := make([]goneRange, len(g.Ranges))
	for i, r := range g.Ranges {
		ranges[i] = goneRange{r.First, r.Last, r.Reason}
	}
	return s.state(dst, statement{typeGone, g.ID, nodeSource(g.Node), g.Node, g.Created}, goneBody[[]goneRange]{g.Node, g.Epoch, ranges})
}

// SealResult appends the message of a result, to be published on ResultTopic(r.Node).
func (s *Sealer) SealResult(dst []byte, r *Result) ([]byte, error) {
	return s.state(dst, statement{typeResult, r.ID, cloudSource(r.Node), r.Node, r.Created}, resultBody{
		r.Node, r.EventID, r.Chunk, r.Completed.UTC(), r.OK, r.Error, r.ContentType, r.Payload,
	})
}

// rawRanges returns [[first,last],…].
func rawRanges(ranges []Range) json.RawMessage {
	raw := json.RawMessage{'['}
	for i, r := range ranges {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = strconv.AppendUint(append(raw, '['), r.First, 10)
		raw = strconv.AppendUint(append(raw, ','), r.Last, 10)
		raw = append(raw, ']')
	}
	return append(raw, ']')
}

// statement has the fields for the attributes of a small message.
type statement struct {
	typ, id, source, node string
	created               time.Time
}

// check rejects names that readers could not distinguish from others.
func (st statement) check() error {
	if isText(st.id) && isText(st.node) && isTime(st.created) {
		return nil
	}
	return malformedf("statement", "its id %q and node %q must be printable UTF-8, its time %v of four-digit years", st.id, st.node, st.created)
}

func (s *Sealer) state(dst []byte, st statement, body any) ([]byte, error) {
	if err := st.check(); err != nil {
		return dst, err
	}
	sc := s.scratch.Get().(*scratch)
	defer s.putScratch(sc)
	plain, err := json.Marshal(body)
	if err != nil {
		return dst, malformed("statement", err)
	}
	sc.plain = append(sc.plain[:0], plain...)
	return s.finish(dst, sc, FormJSON, CompressionNone, []string{
		"specversion", "1.0", "type", st.typ, "id", st.id, "source", st.source, "subject", st.node,
		"time", formatTime(st.created), "datacontenttype", mediaJSON,
	})
}

// OpenReceipt verifies and reads a receipt. The caller compares node, epoch and session with its own before it acts.
func (o *Opener) OpenReceipt(msg []byte) (*Receipt, error) {
	var body receiptBody
	e, created, err := o.receive(msg, typeReceipt, sourceCloud, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	r := &Receipt{ID: e.attrs.get("id"), Node: body.Node, Epoch: body.Epoch, Session: body.Session, Created: created}
	if body.Limits != nil {
		r.Limits = *body.Limits
	}
	if err := r.Limits.check(); err != nil {
		return nil, err
	}
	left := o.limits.MaxRecords
	for _, list := range []struct {
		raw    json.RawMessage
		ranges *[]Range
	}{{body.Safe, &r.Safe}, {body.Gaps, &r.Gaps}, {body.Conflicts, &r.Conflicts}} {
		if *list.ranges, err = readRanges[Range](o, list.raw, &left); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// OpenAnnouncement verifies and reads a consumer's announcement.
func (o *Opener) OpenAnnouncement(msg []byte) (*Announcement, error) {
	var body announcementBody
	e, created, err := o.receive(msg, typeAnnouncement, sourceConsumer, &body, &body.Consumer)
	if err != nil {
		return nil, err
	}
	if err := body.Limits.check(); err != nil {
		return nil, err
	}
	return &Announcement{e.attrs.get("id"), body.Consumer, created, body.Limits}, nil
}

func (l ConsumerLimits) check() error {
	if l.MaxMessage < 0 || l.MaxData < 0 {
		return malformedf("limits", "%d and %d bytes must not be negative", l.MaxMessage, l.MaxData)
	}
	return nil
}

// readRanges reads a list of ranges or confirmed results and counts while it reads. left is the number of elements that the statement may still have.
func readRanges[T any](o *Opener, raw json.RawMessage, left *int) ([]T, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var ranges []T // nil for an empty list, which means the same as an absent one
	err := eachElement(raw, func(element json.RawMessage) error {
		if *left == 0 {
			return &TooLargeError{What: "ranges", Size: -1, Limit: int64(o.limits.MaxRecords)}
		}
		*left--
		var r T
		if err := json.Unmarshal(element, &r); err != nil {
			return malformed("statement", err)
		}
		ranges = append(ranges, r)
		return nil
	})
	if errors.Is(err, errNotJSON) {
		return nil, malformed("statement", err)
	}
	return ranges, err
}

// OpenGone verifies and reads a node's statement of gone records.
func (o *Opener) OpenGone(msg []byte) (*Gone, error) {
	var body goneBody[json.RawMessage]
	e, created, err := o.receive(msg, typeGone, sourceNode, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	left := o.limits.MaxRecords
	ranges, err := readRanges[goneRange](o, body.Ranges, &left)
	if err != nil {
		return nil, err
	}
	g := &Gone{ID: e.attrs.get("id"), Node: body.Node, Epoch: body.Epoch, Created: created}
	for _, r := range ranges {
		if r.First > r.Last {
			return nil, malformedf("range", "[%d, %d] ends before it begins", r.First, r.Last)
		}
		r.Reason = shorten(r.Reason)
		g.Ranges = append(g.Ranges, GoneRange{Range{r.First, r.Last}, r.Reason})
	}
	return g, nil
}

// OpenResult verifies and reads a result.
func (o *Opener) OpenResult(msg []byte) (*Result, error) {
	var b resultBody
	e, created, err := o.receive(msg, typeResult, sourceCloud, &b, &b.Node)
	if err != nil {
		return nil, err
	}
	return &Result{
		e.attrs.get("id"), b.Node, created, b.EventID, b.Chunk, b.Completed, b.OK, b.Error, b.ContentType, b.Payload,
	}, nil
}

// receive opens a small message into body and compares the node it names with the attributes.
func (o *Opener) receive(msg []byte, typ, root string, body any, node *string) (*envelope, time.Time, error) {
	limit := min(o.limits.MaxStatementKiB, o.limits.MaxMessageKiB)
	if typ == typeResult { // it carries a payload
		limit = o.limits.MaxMessageKiB
	}
	e, data, err := o.open(msg, typ, limit<<10, int64(limit)<<10)
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := json.Unmarshal(data, body); err != nil {
		return nil, time.Time{}, malformed("statement", err)
	}
	named, err := nodeOf(e.attrs.get("source"), root)
	if err != nil {
		return nil, time.Time{}, err
	}
	if named != *node || e.attrs.get("subject") != *node {
		return nil, time.Time{}, malformedf("statement", "name %q differs from %q in its attributes", *node, named)
	}
	created, err := parseTime(e.attrs.get("time"))
	if err != nil {
		return nil, time.Time{}, err
	}
	// An accepted message can be passed on, since a sealer makes the same checks.
	return e, created, statement{id: e.attrs.get("id"), node: *node, created: created}.check()
}

// Confirmation is a node's statement that it processed results of its tasks, so that the cloud does not publish them again.
type Confirmation struct {
	ID      string
	Node    string
	Created time.Time
	Results []ConfirmedResult
}

// ConfirmedResult identifies a result by the id of its message. Refused is why the node did not publish it on its MessageBus; "" means that it did,
// or that there was nothing to publish.
type ConfirmedResult struct {
	ID      string `json:"id"`
	Refused string `json:"refused,omitempty"`
}

type confirmationBody[R []ConfirmedResult | json.RawMessage] struct {
	Node    string `json:"node"`
	Results R      `json:"results"`
}

// SealConfirmation appends the message of a confirmation, to be published to ConfirmTopic(c.Node).
func (s *Sealer) SealConfirmation(dst []byte, c *Confirmation) ([]byte, error) {
	for _, r := range c.Results {
		if !isText(r.ID) {
			return dst, malformedf("confirmation", "the id %q of a result is not printable UTF-8", r.ID)
		}
	}
	return s.state(dst, statement{typeConfirm, c.ID, nodeSource(c.Node), c.Node, c.Created}, confirmationBody[[]ConfirmedResult]{c.Node, c.Results})
}

// OpenConfirmation verifies and reads a node's confirmation.
func (o *Opener) OpenConfirmation(msg []byte) (*Confirmation, error) {
	var body confirmationBody[json.RawMessage]
	e, created, err := o.receive(msg, typeConfirm, sourceNode, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	c := &Confirmation{ID: e.attrs.get("id"), Node: body.Node, Created: created}
	left := o.limits.MaxRecords
	if c.Results, err = readRanges[ConfirmedResult](o, body.Results, &left); err != nil {
		return nil, err
	}
	for i := range c.Results {
		r := &c.Results[i]
		if !isText(r.ID) {
			return nil, malformed("confirmation", errors.New("the id of a result is not printable UTF-8"))
		}
		r.Refused = shorten(r.Refused)
	}
	return c, nil
}

// Note is a small statement whose body belongs to another package: what a node has learned, what the fleet has learned, what tasks cost.
type Note struct {
	Kind    NoteKind
	ID      string
	Node    string // source or destination
	Created time.Time
	Body    json.RawMessage // a JSON value
}

// NoteKind is the subject of a note. A note of one kind never opens as another.
type NoteKind string

// The kinds of notes.
const (
	Learned NoteKind = "offload.learned.v1" // from a node, on LearnedTopic
	Fleet   NoteKind = "offload.fleet.v1"   // to a node, on FleetTopic
	Credit  NoteKind = "offload.credit.v1"  // to a node, on CreditTopic
)

// LearnedTopic returns the topic on which a node publishes what it has learned.
func LearnedTopic(node string) string { return TopicRoot + node + "/learned" }

// FleetTopic returns the topic on which a node receives what the fleet has learned.
func FleetTopic(node string) string { return TopicRoot + node + "/fleet" }

// CreditTopic returns the topic on which a node receives prices and its balance.
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

// OpenNote verifies and reads a note of that kind. The caller compares the node with that of the topic, and reads the body.
func (o *Opener) OpenNote(kind NoteKind, msg []byte) (*Note, error) {
	var body noteBody
	e, created, err := o.receive(msg, string(kind), kind.root(), &body, &body.Node)
	if err != nil {
		return nil, err
	}
	return &Note{kind, e.attrs.get("id"), body.Node, created, body.Body}, nil
}
