// Package delivery sends models to a node in pieces, over any transport that carries messages of some KiB. It has no client: a Receiver returns the
// reply to a message, and so does a Sender on the other side.
//
// A message may be lost, repeated or reordered. The receiver requests missing chunks, a few at a time, so the sender needs no state. Received chunks
// are on disk and survive a restart. The manifest is verified before its delivery uses any disk, and the digest of the file before it reaches the
// store. FORMAT.md of functions/models is the reference.
package delivery

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"app-offload/functions/check"
	"app-offload/functions/models"
)

// Limits of messages.
const (
	MinChunk = 1 << 10
	MaxChunk = 256 << 10
	maxOffer = 128 << 10 // bytes of a message other than a chunk
	maxParts = 1 << 20   // chunks of a file
	maxRuns  = 64        // ranges in a request
	maxText  = 512       // bytes of a reason
	header   = 4 + sha256.Size + 4

	MaxMessage = header + MaxChunk // maximum size of a message to a node
)

// mark begins a chunk. All other messages are JSON objects.
var mark = [4]byte{'O', 'M', 'C', '1'}

// Topic returns the topic on which a node receives offers and chunks.
func Topic(node string) string { return "offload/v1/" + node + "/model" }

// WantTopic returns the topic on which a node requests chunks and reports.
func WantTopic(node string) string { return "offload/v1/" + node + "/model/want" }

// ID identifies a version of a model: the SHA-256 of its manifest's bytes, which contain the digest of the file.
type ID [sha256.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText encodes the id as hexadecimal digits.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText decodes 64 hexadecimal digits in lower case.
func (id *ID) UnmarshalText(b []byte) error {
	if _, err := hex.Decode(id[:], b[:min(len(b), 2*len(id))]); err != nil || id.String() != string(b) {
		return fmt.Errorf("an id must be %d hexadecimal digits in lower case", 2*len(id))
	}
	return nil
}

// Offer announces a version.
type Offer struct {
	Type      string `json:"type"`                // offload.model.offer.v1
	Manifest  []byte `json:"manifest"`            // as written and signed by its author, in base64
	Signature []byte `json:"signature,omitempty"` // minisign signature file, in base64
	Chunk     int    `json:"chunk"`               // bytes of each chunk but the last
	Rollback  bool   `json:"rollback,omitempty"`  // the version may be older than the one in force
}

// ID returns the id of the offered version.
func (o *Offer) ID() ID { return sha256.Sum256(o.Manifest) }

// Want requests chunks, or reports the outcome of an offer.
type Want struct {
	Type   string   `json:"type"` // offload.model.want.v1
	ID     ID       `json:"id"`
	State  State    `json:"state"`
	Ranges [][2]int `json:"ranges,omitempty"` // first and last chunk of each requested run, ascending
	Have   int      `json:"have"`             // chunks on disk
	Of     int      `json:"of"`               // chunks of the file
	Reason string   `json:"reason,omitempty"` // of a refusal
}

// State is the state of an offer.
type State string

// States of an offer.
const (
	Wanted    State = "wanted"
	Installed State = "installed"
	Refused   State = "refused"
)

// Chunk is a piece of a file.
type Chunk struct {
	ID    ID
	Index int
	Data  []byte
}

const (
	offerType = "offload.model.offer.v1"
	wantType  = "offload.model.want.v1"
)

// Append encodes a chunk: mark, id, index as 4 bytes big-endian, data.
func (c *Chunk) Append(dst []byte) []byte {
	dst = append(dst, mark[:]...)
	dst = append(dst, c.ID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Index)) //nolint:gosec // below maxParts
	return append(dst, c.Data...)
}

// Encode returns the message of an offer.
func (o *Offer) Encode() ([]byte, error) {
	o.Type = offerType
	if err := o.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(o)
	if err == nil && len(b) > maxOffer {
		err = fmt.Errorf("an offer of %d bytes, at most %d are allowed", len(b), maxOffer)
	}
	return b, err
}

// Encode returns the message of a request or report.
func (w *Want) Encode() ([]byte, error) {
	w.Type = wantType
	w.Reason = check.Cut(w.Reason, maxText)
	if err := w.check(); err != nil {
		return nil, err
	}
	return json.Marshal(w)
}

// DecodeDown decodes a message to a node: an offer or a chunk. The data of a chunk refer to msg.
func DecodeDown(msg []byte) (*Offer, *Chunk, error) {
	if bytes.HasPrefix(msg, mark[:]) {
		c, err := decodeChunk(msg)
		return nil, c, err
	}
	o := &Offer{}
	if err := decode(msg, o); err != nil {
		return nil, nil, fmt.Errorf("reading an offer of a model: %w", err)
	}
	if err := o.check(); err != nil {
		return nil, nil, fmt.Errorf("reading an offer of a model: %w", err)
	}
	return o, nil, nil
}

func decodeChunk(msg []byte) (*Chunk, error) {
	n := len(msg) - header
	if n < 1 || n > MaxChunk {
		return nil, fmt.Errorf("reading a chunk of a model: %d bytes, expected %d to %d", len(msg), header+1, header+MaxChunk)
	}
	index := binary.BigEndian.Uint32(msg[header-4:])
	if index >= maxParts {
		return nil, fmt.Errorf("reading a chunk of a model: byte %d: index %d, expected below %d", header-4, index, maxParts)
	}
	c := &Chunk{Index: int(index), Data: msg[header:]}
	copy(c.ID[:], msg[len(mark):])
	return c, nil
}

// DecodeWant decodes a message from a node.
func DecodeWant(msg []byte) (*Want, error) {
	w := &Want{}
	if err := decode(msg, w); err != nil {
		return nil, fmt.Errorf("reading a request for a model: %w", err)
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("reading a request for a model: %w", err)
	}
	return w, nil
}

// decode decodes one JSON object without unknown members.
func decode(msg []byte, into any) error {
	if len(msg) > maxOffer {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(msg), maxOffer)
	}
	d := json.NewDecoder(bytes.NewReader(msg))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("byte %d: expected the end", d.InputOffset())
	}
	return nil
}

func (o *Offer) check() error {
	switch {
	case o.Type != offerType:
		return fmt.Errorf("the type is %.64q, expected %s", o.Type, offerType)
	case o.Chunk < MinChunk || o.Chunk > MaxChunk:
		return fmt.Errorf("a chunk of %d bytes, expected %d to %d", o.Chunk, MinChunk, MaxChunk)
	case len(o.Manifest) == 0:
		return errors.New("there is no manifest")
	}
	return nil
}

func (w *Want) check() error {
	if w.Type != wantType {
		return fmt.Errorf("the type is %.64q, expected %s", w.Type, wantType)
	}
	if w.State != Wanted && w.State != Installed && w.State != Refused {
		return fmt.Errorf("the state is %.64q, expected %s, %s or %s", w.State, Wanted, Installed, Refused)
	}
	if w.Of < 0 || w.Of > maxParts || w.Have < 0 || w.Have > w.Of || len(w.Ranges) > maxRuns || len(w.Reason) > maxText {
		return fmt.Errorf("%d of %d chunks in %d ranges with a reason of %d bytes: out of bounds", w.Have, w.Of, len(w.Ranges), len(w.Reason))
	}
	last := -1
	for _, r := range w.Ranges {
		if r[0] <= last || r[1] < r[0] || r[1] >= w.Of {
			return fmt.Errorf("range %v of %d chunks: ranges must ascend within the file", r, w.Of)
		}
		last = r[1]
	}
	return nil
}

// parts returns the number of chunks of a file.
func parts(m *models.Manifest, chunk int) int {
	return int((m.Size + int64(chunk) - 1) / int64(chunk))
}
