package spool

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The layout of a record; FORMAT.md has the table.
const (
	recordMagic   = "aOsR"
	recordVersion = 1
	headerSize    = 56 // the class's name and the payload follow
	authSize      = 48 // the part of the header that encryption authenticates
	maxClass      = 255

	flagEncrypted = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// reasonForged begins the reason of a record with correct checksums whose authentication fails.
const reasonForged = "decrypting"

var errDamaged = errors.New("checksum does not match")

// header is a record without its payload.
type header struct {
	seq           uint64
	time, expires int64
	length        uint32 // of the stored payload
	synced        uint32 // bytes of the segment that were durable when this record was written
	clock         uint32 // ticks of the spool's clock
	score         float32
	sum           uint32 // of the stored payload
	flags         uint8
	class         []byte // points into the parsed bytes
}

func (h *header) size() int { return headerSize + len(h.class) + int(h.length) }

// appendHeader writes all fields but the two checksums, which finishRecord adds after the payload.
func appendHeader(dst []byte, h *header) []byte {
	dst = append(dst, recordMagic...)
	dst = append(dst, recordVersion, h.flags, byte(len(h.class)), 0) // at most maxClass
	dst = binary.LittleEndian.AppendUint32(dst, h.length)
	dst = binary.LittleEndian.AppendUint32(dst, h.synced)
	dst = binary.LittleEndian.AppendUint64(dst, h.seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.time))    // bits are kept
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.expires)) // bits are kept
	dst = binary.LittleEndian.AppendUint32(dst, h.clock)
	dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(h.score))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(dst, h.class...)
}

func finishRecord(rec []byte, seed uint32) {
	class := int(rec[6])
	payload := rec[headerSize+class:]
	binary.LittleEndian.PutUint32(rec[48:], crc32.Update(seed, castagnoli, payload))
	binary.LittleEndian.PutUint32(rec[52:], headerSum(rec, class, seed))
}

// headerSum is seeded by the segment, so that a record left in a reused file is never taken for a record of the new segment.
func headerSum(b []byte, class int, seed uint32) uint32 {
	sum := crc32.Update(seed, castagnoli, b[:52])
	return crc32.Update(sum, castagnoli, b[headerSize:headerSize+class])
}

// parseHeader parses the header at the start of b. It accepts only an intact one.
func parseHeader(b []byte, seed uint32) (h header, ok bool) {
	if len(b) < headerSize || string(b[:4]) != recordMagic || b[4] != recordVersion {
		return h, false
	}
	class := int(b[6])
	if len(b) < headerSize+class || binary.LittleEndian.Uint32(b[52:]) != headerSum(b, class, seed) {
		return h, false
	}
	le := binary.LittleEndian
	return header{
		flags:   b[5],
		length:  le.Uint32(b[8:]),
		synced:  le.Uint32(b[12:]),
		seq:     le.Uint64(b[16:]),
		time:    int64(le.Uint64(b[24:])), // bits are kept
		expires: int64(le.Uint64(b[32:])), // bits are kept
		clock:   le.Uint32(b[40:]),
		score:   math.Float32frombits(le.Uint32(b[44:])),
		sum:     le.Uint32(b[48:]),
		class:   b[headerSize : headerSize+class],
	}, true
}

// parseRecord parses the whole record at the start of b. If ok is false, the header is damaged; on an error only the payload is, and the header's
// length gives the start of the next record.
func parseRecord(b []byte, seed uint32) (h header, payload []byte, ok bool, err error) {
	h, ok = parseHeader(b, seed)
	if !ok || h.size() > len(b) {
		return h, nil, false, nil
	}
	payload = b[headerSize+len(h.class) : h.size()]
	if crc32.Update(seed, castagnoli, payload) != h.sum {
		return h, nil, true, errDamaged
	}
	return h, payload, true, nil
}

// heal searches the header at the start of b for a single flipped bit. If flipping it makes the checksums of header and payload both match, it
// returns a corrected copy of the header and the class. Two checksums of 32 bits do not match by chance, so the correction restores what was written.
func heal(b []byte, seed uint32) (mended []byte, ok bool) {
	n := min(headerSize+maxClass, len(b))
	if n < headerSize {
		return nil, false
	}
	head := bytes.Clone(b[:n])
	for bit := range n * 8 {
		head[bit/8] ^= 1 << (bit % 8)
		h, good := parseHeader(head, seed)
		if good && h.size() <= len(b) && bit/8 < headerSize+len(h.class) {
			payload := b[headerSize+len(h.class) : h.size()]
			if crc32.Update(seed, castagnoli, payload) == h.sum {
				return head[:headerSize+len(h.class)], true
			}
		}
		head[bit/8] ^= 1 << (bit % 8)
	}
	return nil, false
}

// decodeRecord parses the record with this sequence, corrects it if possible, and decrypts it in place.
func decodeRecord(b []byte, seed uint32, seq uint64, aead cipher.AEAD) (Record, error) {
	head := b
	h, payload, ok, err := parseRecord(b, seed)
	if !ok {
		if head, ok = heal(b, seed); !ok {
			return Record{}, errors.New("header: " + errDamaged.Error())
		}
		h, _ = parseHeader(head, seed)
		payload = b[len(head):h.size()]
	}
	if err != nil {
		return Record{}, fmt.Errorf("payload: %w", err)
	}
	if h.seq != seq {
		return Record{}, fmt.Errorf("found record %d in place of %d", h.seq, seq)
	}
	payload, err = openPayload(head, payload, &h, aead)
	if err != nil {
		return Record{}, fmt.Errorf("%s: %w", reasonForged, err)
	}
	return Record{Seq: h.seq, Class: string(h.class), Score: h.score, Time: h.time, Expires: h.expires, Payload: payload}, nil
}

// stored returns the size of the record on disk.
func (s *Spool) stored(r *Record) int64 {
	n := int64(headerSize + len(r.Class) + len(r.Payload))
	if s.limits.Encrypt {
		n += tagSize
	}
	return n
}

const (
	saltSize  = 32
	checkSize = 8
	tagSize   = 16
)

// errWrongKey reports a key of the right id that did not encrypt the segment.
var errWrongKey = errors.New("the key with this id did not encrypt the segment")

// segmentCipher derives the cipher of one segment, and the bytes by which its header recognises the key. Each segment has a random salt and so a key
// of its own, with which each sequence is used once: FORMAT.md explains why no nonce repeats.
func segmentCipher(key, salt []byte, epoch string) (aead cipher.AEAD, check []byte, err error) {
	if len(key) != 32 {
		return nil, nil, fmt.Errorf("deriving a segment's key: the key has %d bytes, AES-256 needs 32", len(key))
	}
	out, err := hkdf.Key(sha256.New, key, salt, "app-offload spool 1 "+epoch, 32+checkSize)
	if err != nil {
		return nil, nil, fmt.Errorf("deriving a segment's key: %w", err)
	}
	block, err := aes.NewCipher(out[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("deriving a segment's key: %w", err)
	}
	aead, err = cipher.NewGCM(block)
	return aead, out[32:], err
}

// unlockSegment derives the cipher of a segment and rejects a wrong key.
func unlockSegment(key []byte, h *segmentHeader) (cipher.AEAD, error) {
	aead, check, err := segmentCipher(key, h.salt[:], h.epoch)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(check, h.check[:]) != 1 {
		return nil, errWrongKey
	}
	return aead, nil
}

func nonce(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), seq)
}

// sealRecord appends a record with its payload, encrypted if the segment is. The header's fields up to the checksums and the class are authenticated.
func sealRecord(dst []byte, h *header, payload []byte, aead cipher.AEAD, seed uint32) []byte {
	start := len(dst)
	h.length = uint32(len(payload)) // bounded by the largest record
	if aead != nil {
		h.length += tagSize
		h.flags |= flagEncrypted
	}
	dst = appendHeader(dst, h)
	if aead == nil {
		dst = append(dst, payload...)
	} else {
		dst = aead.Seal(dst, nonce(h.seq), payload, authenticated(dst[start:]))
	}
	finishRecord(dst[start:], seed)
	return dst
}

// openPayload decrypts the payload in place.
func openPayload(head, payload []byte, h *header, aead cipher.AEAD) ([]byte, error) {
	if h.flags&flagEncrypted == 0 {
		return payload, nil
	}
	if aead == nil {
		return nil, errors.New("record is encrypted, but its segment is not")
	}
	return aead.Open(payload[:0], nonce(h.seq), payload, authenticated(head))
}

func authenticated(head []byte) []byte {
	aad := make([]byte, 0, authSize+maxClass)
	aad = append(aad, head[:authSize]...)
	return append(aad, head[headerSize:headerSize+int(head[6])]...)
}

// findKey returns the cipher of a segment, nil if the segment is not encrypted.
func findKey(keys Keys, h *segmentHeader) (cipher.AEAD, error) {
	if !h.encrypted() {
		return nil, nil
	}
	if keys == nil {
		return nil, fmt.Errorf("reading segment %s: encrypted with key %q, but no keys are configured", h.name(), h.keyID)
	}
	key, err := keys.Key(h.keyID)
	if err != nil {
		return nil, fmt.Errorf("reading segment %s: getting key %q: %w", h.name(), h.keyID, err)
	}
	aead, err := unlockSegment(key, h)
	if err != nil {
		return nil, fmt.Errorf("reading segment %s, encrypted with key %q: %w", h.name(), h.keyID, err)
	}
	return aead, nil
}
