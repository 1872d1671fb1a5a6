package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"app-offload/functions/models"
)

// Names in a store's folder.
const (
	incoming = ".incoming"
	offerAt  = "/offer"
	partAt   = "/part"
	haveAt   = "/have"
)

// syncEvery is the maximum number of chunks that a crash loses.
const syncEvery = 16

// partial is an incomplete file of a delivery.
type partial struct {
	id       ID
	offer    *Offer
	manifest *models.Manifest
	dir      string
	root     *os.Root
	file     *os.File
	have     []byte // one bit for each chunk
	got, of  int
	unsynced int
	wanted   int   // requested chunks that have not arrived
	upTo     int   // last requested chunk
	active   int64 // stamp of the last chunk, offer or request
	tries    int   // downloads with a wrong digest
}

// begin creates the folder of a partial, with its offer.
func begin(root *os.Root, o *Offer, m *models.Manifest) (*partial, error) {
	p := newPartial(root, o, m)
	msg, err := json.Marshal(o)
	if err == nil {
		err = errors.Join(ignoreExist(root.Mkdir(incoming, 0o750)), root.RemoveAll(p.dir))
	}
	if err == nil {
		err = root.Mkdir(p.dir, 0o750)
	}
	if err == nil {
		err = models.WriteFile(root, p.dir+offerAt, msg)
	}
	if err == nil {
		err = p.open(os.O_RDWR | os.O_CREATE)
	}
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

func ignoreExist(err error) error {
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func newPartial(root *os.Root, o *Offer, m *models.Manifest) *partial {
	of := parts(m, o.Chunk)
	id := o.ID()
	return &partial{id: id, offer: o, manifest: m, dir: incoming + "/" + id.String(), root: root, of: of, have: make([]byte, (of+7)/8)}
}

func (p *partial) open(flag int) (err error) {
	p.file, err = p.root.OpenFile(p.dir+partAt, flag, 0o600)
	return err
}

// resume loads the state of an earlier process. If the bitmap is invalid, all chunks are requested again.
func (p *partial) resume() error {
	if err := p.open(os.O_RDWR | os.O_CREATE); err != nil {
		return err
	}
	b, err := models.ReadFile(p.root, p.dir+haveAt, int64(len(p.have)+4))
	if err != nil || len(b) != len(p.have)+4 || binary.BigEndian.Uint32(b[len(p.have):]) != crc32.ChecksumIEEE(b[:len(p.have)]) {
		return nil //nolint:nilerr // as above
	}
	copy(p.have, b)
	for i := range p.of {
		if p.has(i) {
			p.got++
		}
	}
	return nil
}

func (p *partial) has(i int) bool { return p.have[i/8]&(1<<(i%8)) != 0 }

// length returns the length of chunk i.
func (p *partial) length(i int) int {
	return int(min(int64(p.offer.Chunk), p.manifest.Size-int64(i)*int64(p.offer.Chunk)))
}

// add stores a chunk. A repeated chunk has no effect.
func (p *partial) add(c *Chunk) error {
	if c.Index >= p.of || len(c.Data) != p.length(c.Index) {
		return fmt.Errorf("chunk %d with %d bytes does not fit a file of %d bytes in chunks of %d", c.Index, len(c.Data), p.manifest.Size, p.offer.Chunk)
	}
	if p.has(c.Index) {
		return nil
	}
	if _, err := p.file.WriteAt(c.Data, int64(c.Index)*int64(p.offer.Chunk)); err != nil {
		return fmt.Errorf("storing chunk %d: %w", c.Index, err)
	}
	p.have[c.Index/8] |= 1 << (c.Index % 8)
	p.got++
	if c.Index <= p.upTo && p.wanted > 0 {
		p.wanted--
	}
	if p.unsynced++; p.unsynced >= syncEvery {
		return p.sync()
	}
	return nil
}

// sync makes the chunks durable before their bits, so that after a power cut no bit refers to a lost chunk.
func (p *partial) sync() error {
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("storing chunks: %w", err)
	}
	p.unsynced = 0
	b := binary.BigEndian.AppendUint32(append([]byte(nil), p.have...), crc32.ChecksumIEEE(p.have))
	if err := models.WriteFile(p.root, p.dir+haveAt, b); err != nil {
		return fmt.Errorf("storing chunks: %w", err)
	}
	return nil
}

// verify compares the complete file with the digest of the manifest. Its size is right, since the size of every chunk was.
func (p *partial) verify() error {
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("storing chunks: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(p.file, 0, p.manifest.Size)); err != nil {
		return fmt.Errorf("reading the file again: %w", err)
	}
	if digest := hex.EncodeToString(h.Sum(nil)); digest != p.manifest.SHA256 {
		return fmt.Errorf("%w: the received file has the SHA-256 %s, the manifest specifies %s", errDigest, digest, p.manifest.SHA256)
	}
	return nil
}

var errDigest = errors.New("wrong digest")

// restart discards all chunks, since it is unknown which one is wrong.
func (p *partial) restart() error {
	clear(p.have)
	p.got = 0
	p.tries++
	return p.sync()
}

// want returns a request for the next missing chunks.
func (p *partial) want(window int) *Want {
	w := &Want{ID: p.id, State: Wanted, Have: p.got, Of: p.of}
	p.wanted = 0
	for i := 0; i < p.of && p.wanted < window; i++ {
		if p.has(i) {
			continue
		}
		if n := len(w.Ranges); n > 0 && w.Ranges[n-1][1] == i-1 {
			w.Ranges[n-1][1] = i
		} else if n < maxRuns {
			w.Ranges = append(w.Ranges, [2]int{i, i})
		} else {
			break
		}
		p.wanted++
		p.upTo = i
	}
	return w
}

// there reports whether the file is in the folder of the delivery, and was not moved into the store.
func (p *partial) there() bool {
	_, err := p.root.Stat(p.dir + partAt)
	return !errors.Is(err, fs.ErrNotExist) // a lack of descriptors also counts as there
}

func (p *partial) close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

func (p *partial) remove() error { return errors.Join(p.close(), p.root.RemoveAll(p.dir)) }
