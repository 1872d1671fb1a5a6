package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	saltSize  = 32
	checkSize = 8
	tagSize   = 16
)

// errWrongKey says that a key of the right name is not the key that encrypted a segment.
var errWrongKey = errors.New("the key of this id is not the one that encrypted the segment")

// segmentCipher derives the cipher of one segment and the bytes by which its header recognises the key. Each segment has
// a random salt and so a key of its own, within which a sequence is used once: FORMAT.md argues that no nonce repeats.
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

// unlockSegment derives the cipher to read a segment and refuses a key that is not its own.
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

// sealRecord appends a record with its payload, encrypted where the segment is. The header's fields up to the checksums
// and the class are authenticated with it.
func sealRecord(dst []byte, h *header, payload []byte, aead cipher.AEAD, seed uint32) []byte {
	start := len(dst)
	h.length = uint32(len(payload)) // checked against the largest record
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

// openPayload decrypts in place.
func openPayload(head, payload []byte, h *header, aead cipher.AEAD) ([]byte, error) {
	if h.flags&flagEncrypted == 0 {
		return payload, nil
	}
	if aead == nil {
		return nil, errors.New("record is encrypted and its segment is not")
	}
	return aead.Open(payload[:0], nonce(h.seq), payload, authenticated(head))
}

func authenticated(head []byte) []byte {
	aad := make([]byte, 0, authSize+maxClass)
	aad = append(aad, head[:authSize]...)
	return append(aad, head[headerSize:headerSize+int(head[6])]...)
}

// findKey gets the cipher that reads a segment; nil for one that is not encrypted.
func findKey(keys Keys, h *segmentHeader) (cipher.AEAD, error) {
	if !h.encrypted() {
		return nil, nil
	}
	if keys == nil {
		return nil, fmt.Errorf("reading segment %s: it is encrypted with key %q and no keys are configured", h.name(), h.keyID)
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
