package delivery

import (
	"fmt"
	"io"
	"iter"

	"app-offload/functions/models"
)

// Sender answers requests for the chunks of one version. It has no state but the offer, and is safe for concurrent use if its file is.
type Sender struct {
	offer Offer
	id    ID
	of    int
	size  int64
	file  io.ReaderAt
}

// NewSender offers a file with its manifest and signature, in chunks of the given number of bytes.
func NewSender(manifest, signature []byte, file io.ReaderAt, chunk int, rollback bool) (*Sender, error) {
	m, err := models.ParseManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("offering a model: %w", err)
	}
	s := &Sender{offer: Offer{Manifest: manifest, Signature: signature, Chunk: chunk, Rollback: rollback}, size: m.Size, file: file}
	if _, err := s.offer.Encode(); err != nil {
		return nil, fmt.Errorf("offering model %s %s: %w", m.Name, m.Version, err)
	}
	if s.id, s.of = s.offer.ID(), parts(m, chunk); s.of > maxParts {
		return nil, fmt.Errorf("offering model %s %s: %d chunks, at most %d are allowed; use larger chunks", m.Name, m.Version, s.of, maxParts)
	}
	return s, nil
}

// ID returns the id of the offered version.
func (s *Sender) ID() ID { return s.id }

// Offer returns the message that begins a delivery. The message may be repeated at any time, and may be retained by a broker.
func (s *Sender) Offer() []byte {
	b, err := s.offer.Encode()
	if err != nil {
		panic(err) // NewSender has encoded it before
	}
	return b
}

// Answer yields the requested chunks as messages, each read from the file when it is due. It yields nothing for a report, or for a request for another version.
func (s *Sender) Answer(w *Want) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if w.ID != s.id || w.State != Wanted || w.Of != s.of {
			return
		}
		for _, r := range w.Ranges {
			for i := r[0]; i <= r[1]; i++ {
				msg, err := s.chunk(i)
				if !yield(msg, err) || err != nil {
					return
				}
			}
		}
	}
}

func (s *Sender) chunk(i int) ([]byte, error) {
	at := int64(i) * int64(s.offer.Chunk)
	data := make([]byte, min(int64(s.offer.Chunk), s.size-at))
	if _, err := s.file.ReadAt(data, at); err != nil && err != io.EOF { //nolint:errorlint // io.ReaderAt returns it unwrapped
		return nil, fmt.Errorf("reading chunk %d of a model: %w", i, err)
	}
	c := Chunk{ID: s.id, Index: i, Data: data}
	return c.Append(nil), nil
}
