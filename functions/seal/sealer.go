package seal

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Sealer makes messages.
type Sealer struct {
	cfg     Config
	keys    *keyring
	packers map[string]*compressor
	scratch sync.Pool // of *scratch

	message, data atomic.Pointer[ceiling]
}

// ceiling is a limit and whose it is.
type ceiling struct {
	bytes int64
	whose string
}

// below is the lower of a configured limit and a consumer's; 0 is no limit.
func below(configured int64, key string, consumer int64) *ceiling {
	if consumer > 0 && consumer < configured {
		return &ceiling{consumer, "the consumer's limit"}
	}
	return &ceiling{configured, key}
}

func (c *ceiling) check(what string, size int) error {
	if int64(size) <= c.bytes {
		return nil
	}
	return &TooLargeError{What: what, Size: int64(size), Limit: c.bytes, Whose: c.whose}
}

// Obey keeps messages from now on below what a consumer takes, and below the configured limits. It is safe for concurrent use.
func (s *Sealer) Obey(l ConsumerLimits) {
	s.message.Store(below(int64(s.cfg.MaxMessageKiB)<<10, "Seal.MaxMessageKiB", l.MaxMessage))
	s.data.Store(below(int64(s.cfg.MaxDataMiB)<<20, "Seal.MaxDataMiB", l.MaxData))
}

// scratch are the buffers of one Seal, kept for the next.
type scratch struct{ plain, packed, sealed, aad []byte }

// maxKept is how large a buffer may be and still be kept.
const maxKept = 4 << 20

// NewSealer prepares to seal. Without keys (nil) everything goes out plain, which only the ciphers auto and none allow.
func NewSealer(cfg Config, keys Keys) (*Sealer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sealer{cfg: cfg, keys: newKeyring(cfg, keys), packers: map[string]*compressor{}}
	s.Obey(ConsumerLimits{})
	for _, name := range []string{cfg.Compression, CompressionNone} {
		var err error
		if s.packers[name], err = newCompressor(name, cfg.Fold, cfg.CompressionLevel); err != nil {
			return nil, err
		}
	}
	s.scratch.New = func() any { return &scratch{} }
	return s, nil
}

// Seal appends the message of a batch to dst. On an error dst is returned as it was: a TooLargeError asks for a smaller
// batch, a MalformedError names what in the batch can never be sealed, the others are about keys and may pass.
func (s *Sealer) Seal(dst []byte, b *Batch) ([]byte, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	sc := s.scratch.Get().(*scratch)
	defer s.putScratch(sc)
	media := mediaJSON
	if s.cfg.Form == FormProtobuf {
		media = mediaProtobuf
		sc.plain = b.appendProtobuf(sc.plain[:0])
	} else {
		var err error
		if sc.plain, err = b.appendJSON(sc.plain[:0]); err != nil {
			return dst, err
		}
	}
	return s.finish(dst, sc, s.cfg.Form, s.cfg.Compression, b.attributes(media))
}

// finish compresses, seals and wraps the plain payload in sc.
func (s *Sealer) finish(dst []byte, sc *scratch, form, compression string, attrs []string) ([]byte, error) {
	if err := s.data.Load().check("data", len(sc.plain)); err != nil {
		return dst, err
	}
	k, err := s.keys.next()
	if err != nil {
		return dst, fmt.Errorf("choosing a key: %w", err)
	}
	if k == nil && form == FormJSON {
		attrs = append(attrs, "contentencoding", CompressionNone, "cipher", CipherNone)
		return s.write(dst, &envelope{attrs: newAttributes(attrs...), data: sc.plain, inline: true}, form)
	}
	packer := s.packers[compression]
	if sc.packed, err = packer.pack(sc.packed[:0], sc.plain); err != nil {
		return dst, fmt.Errorf("compressing with %s: %w", compression, err)
	}
	attrs = append(attrs, "contentencoding", packer.name)
	if k == nil {
		attrs = append(attrs, "cipher", CipherNone)
		return s.write(dst, &envelope{attrs: newAttributes(attrs...), data: sc.packed}, form)
	}
	e := &envelope{attrs: newAttributes(append(attrs, "cipher", k.cipher, "keyid", k.keyID)...)}
	sc.aad = e.attrs.appendAAD(sc.aad[:0])
	if sc.sealed, err = k.seal(sc.sealed[:0], s.keys.nonces, sc.packed, sc.aad); err != nil {
		return dst, fmt.Errorf("sealing with key %q: %w", k.keyID, err)
	}
	e.data = sc.sealed
	return s.write(dst, e, form)
}

func (s *Sealer) write(dst []byte, e *envelope, form string) ([]byte, error) {
	out, err := e.appendTo(dst, form)
	if err != nil {
		return dst, fmt.Errorf("writing the message: %w", err)
	}
	if err := s.message.Load().check("message", len(out)-len(dst)); err != nil {
		return dst, err
	}
	return out, nil
}

func (s *Sealer) putScratch(sc *scratch) {
	if cap(sc.plain)+cap(sc.packed)+cap(sc.sealed) <= maxKept {
		s.scratch.Put(sc)
	}
}
