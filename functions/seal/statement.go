package seal

import (
	"encoding/json"
	"time"
)

// receiptBody, goneBody and resultBody are the payloads of the small messages, always JSON and never compressed.
type receiptBody struct {
	Node  string  `json:"node"`
	Epoch string  `json:"epoch"`
	Safe  []Range `json:"safe"`
	Gaps  []Range `json:"gaps"`
}

type goneBody struct {
	Node   string      `json:"node"`
	Epoch  string      `json:"epoch"`
	Ranges []goneRange `json:"ranges"`
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

// UnmarshalJSON accepts what MarshalJSON writes, if it is a range.
func (r *Range) UnmarshalJSON(b []byte) error {
	var ends []uint64
	if err := json.Unmarshal(b, &ends); err != nil {
		return err
	}
	if len(ends) != 2 || ends[0] > ends[1] {
		return malformedf("range", "%s is not [first, last]", b)
	}
	r.First, r.Last = ends[0], ends[1]
	return nil
}

// Len is the number of sequences in the range.
func (r Range) Len() uint64 { return r.Last - r.First + 1 }

// SealReceipt appends the message of a receipt, to be published to ReceiptTopic(r.Node).
func (s *Sealer) SealReceipt(dst []byte, r *Receipt) ([]byte, error) {
	return s.state(dst, statement{typeReceipt, r.ID, cloudSource(r.Node), r.Node, r.Created},
		receiptBody{Node: r.Node, Epoch: r.Epoch, Safe: orEmpty(r.Safe), Gaps: orEmpty(r.Gaps)})
}

// SealGone appends the message in which a node gives up ranges, to be published to GoneTopic(g.Node).
func (s *Sealer) SealGone(dst []byte, g *Gone) ([]byte, error) {
	body := goneBody{Node: g.Node, Epoch: g.Epoch, Ranges: make([]goneRange, len(g.Ranges))}
	for i, r := range g.Ranges {
		body.Ranges[i] = goneRange{r.First, r.Last, r.Reason}
	}
	return s.state(dst, statement{typeGone, g.ID, nodeSource(g.Node), g.Node, g.Created}, body)
}

// SealResult appends the message of a result, to be published to ResultTopic(r.Node).
func (s *Sealer) SealResult(dst []byte, r *Result) ([]byte, error) {
	return s.state(dst, statement{typeResult, r.ID, cloudSource(r.Node), r.Node, r.Created}, resultBody{
		r.Node, r.EventID, r.Chunk, r.Completed.UTC(), r.OK, r.Error, r.ContentType, r.Payload,
	})
}

func orEmpty(r []Range) []Range {
	if r == nil {
		return []Range{}
	}
	return r
}

// statement is what the attributes of a small message are made of.
type statement struct {
	typ, id, source, node string
	created               time.Time
}

// check refuses what no reader could tell apart from others.
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

// OpenReceipt verifies and reads a receipt. The caller compares node and epoch with its own before it acts.
func (o *Opener) OpenReceipt(msg []byte) (*Receipt, error) {
	var body receiptBody
	e, created, err := o.hear(msg, typeReceipt, sourceCloud, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	if err := o.checkRanges(len(body.Safe) + len(body.Gaps)); err != nil {
		return nil, err
	}
	return &Receipt{e.attrs.get("id"), body.Node, body.Epoch, created, orNil(body.Safe), orNil(body.Gaps)}, nil
}

// orNil makes no ranges of an empty list, which says the same as one that is left out.
func orNil(ranges []Range) []Range {
	if len(ranges) == 0 {
		return nil
	}
	return ranges
}

// OpenGone verifies and reads a node's statement of what will never come.
func (o *Opener) OpenGone(msg []byte) (*Gone, error) {
	var body goneBody
	e, created, err := o.hear(msg, typeGone, sourceNode, &body, &body.Node)
	if err != nil {
		return nil, err
	}
	if err := o.checkRanges(len(body.Ranges)); err != nil {
		return nil, err
	}
	g := &Gone{ID: e.attrs.get("id"), Node: body.Node, Epoch: body.Epoch, Created: created}
	for _, r := range body.Ranges {
		if r.First > r.Last {
			return nil, malformedf("range", "[%d, %d] ends before it begins", r.First, r.Last)
		}
		g.Ranges = append(g.Ranges, GoneRange{Range{r.First, r.Last}, r.Reason})
	}
	return g, nil
}

// OpenResult verifies and reads a result.
func (o *Opener) OpenResult(msg []byte) (*Result, error) {
	var b resultBody
	e, created, err := o.hear(msg, typeResult, sourceCloud, &b, &b.Node)
	if err != nil {
		return nil, err
	}
	return &Result{
		e.attrs.get("id"), b.Node, created, b.EventID, b.Chunk, b.Completed, b.OK, b.Error, b.ContentType, b.Payload,
	}, nil
}

// hear opens a small message into body and holds the node it names against the attributes.
func (o *Opener) hear(msg []byte, typ, root string, body any, node *string) (*envelope, time.Time, error) {
	e, data, err := o.open(msg, typ)
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
		return nil, time.Time{}, malformedf("statement", "it is about %q where its attributes say %q", *node, named)
	}
	created, err := parseTime(e.attrs.get("time"))
	if err != nil {
		return nil, time.Time{}, err
	}
	// What is taken in can be passed on: a sealer refuses the same.
	return e, created, statement{id: e.attrs.get("id"), node: *node, created: created}.check()
}

func (o *Opener) checkRanges(n int) error {
	if n > o.limits.MaxRecords {
		return &TooLargeError{What: "ranges", Size: int64(n), Limit: int64(o.limits.MaxRecords)}
	}
	return nil
}
