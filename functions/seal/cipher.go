package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ProtonMail/go-crypto/eax"
)

// gcmLimit is the maximum number of messages that one key may seal with random nonces of 96 bits (NIST SP 800-38D, 8.3): the probability that two
// share a nonce then stays below 2⁻³².
const gcmLimit = 1 << 32

// maxCached is the maximum number of cached ciphers; a rotation needs two.
const maxCached = 32

// lock is a cipher with its key. It is safe for concurrent use.
type lock struct {
	cipher, keyID string
	key           []byte
	aead          cipher.AEAD
}

// locks caches the locks of recent keys, so that the key schedule is computed once a key, not once a message.
type locks struct {
	mu   sync.Mutex
	kept map[string]*lock // by cipher and key id
}

// get returns the lock of a key. It also compares the key's bytes, since an operator may replace a key under its old id.
func (l *locks) get(name, keyID string, key []byte) (*lock, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := name + " " + keyID
	if k := l.kept[id]; k != nil && subtle.ConstantTimeCompare(k.key, key) == 1 {
		return k, nil
	}
	aead, err := newAEAD(name, key)
	if err != nil {
		return nil, fmt.Errorf("using key %q: %w", keyID, err)
	}
	if l.kept == nil || len(l.kept) >= maxCached {
		l.kept = map[string]*lock{}
	}
	k := &lock{cipher: name, keyID: keyID, key: append([]byte(nil), key...), aead: aead}
	l.kept[id] = k
	return k, nil
}

// newAEAD never includes the key in an error.
func newAEAD(name string, key []byte) (cipher.AEAD, error) {
	if name == CipherGCM && len(key) != 32 {
		return nil, fmt.Errorf("%s needs a key of 32 bytes, this one has %d; %s also takes 16 and 24", name, len(key), CipherEAX)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%s needs a key of 16, 24 or 32 bytes, this one has %d", name, len(key))
	}
	switch name {
	case CipherGCM:
		return cipher.NewGCM(block)
	case CipherEAX:
		return eax.NewEAX(block)
	}
	return nil, fmt.Errorf("unknown cipher %q", name)
}

// seal appends nonce, ciphertext and tag.
func (k *lock) seal(dst []byte, nonces io.Reader, plain, aad []byte) ([]byte, error) {
	at, n := len(dst), k.aead.NonceSize()
	dst = append(dst, make([]byte, n)...)
	nonce := dst[at : at+n : at+n]
	if _, err := io.ReadFull(nonces, nonce); err != nil {
		return dst[:at], fmt.Errorf("drawing a nonce: %w", err)
	}
	return k.aead.Seal(dst, nonce, plain, aad), nil
}

// open verifies and decrypts the output of seal.
func (k *lock) open(sealed, aad []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(sealed) < n+k.aead.Overhead() {
		return nil, fmt.Errorf("%d bytes are too few for nonce and tag: %w", len(sealed), ErrForged)
	}
	plain, err := k.aead.Open(nil, sealed[:n:n], sealed[n:], aad)
	if err != nil {
		return nil, ErrForged // the cipher's error deliberately says no more
	}
	return plain, nil
}

// keyring chooses the key of the next message and counts its uses.
type keyring struct {
	cfg    Config
	keys   Keys
	nonces io.Reader
	limit  uint64
	locks  locks

	mu   sync.Mutex
	used map[string]uint64 // messages sealed with GCM, by key id
	once bool              // a key has been used, so plain messages are no longer allowed
}

func newKeyring(cfg Config, keys Keys) *keyring {
	return &keyring{cfg: cfg, keys: keys, nonces: rand.Reader, limit: gcmLimit, used: map[string]uint64{}}
}

// next returns the lock for one message, or nil if it is not to be sealed.
func (r *keyring) next() (*lock, error) {
	if r.cfg.Cipher == CipherNone {
		return nil, nil
	}
	id, key, err := r.current()
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, r.plainAllowed()
	}
	name := r.cfg.Cipher
	if name == CipherAuto {
		name = cipherFor(key)
	}
	k, err := r.locks.get(name, id, key)
	if err != nil {
		return nil, err
	}
	return k, r.count(k)
}

func (r *keyring) current() (id string, key []byte, err error) {
	switch {
	case r.keys == nil:
		return "", nil, nil
	case r.cfg.KeyID != "":
		id = r.cfg.KeyID
		key, err = r.keys.Key(id)
	default:
		id, key, err = r.keys.Current()
	}
	if err != nil {
		return "", nil, &UnknownKeyError{KeyID: id, Err: err}
	}
	if id != "" && !isText(id) {
		return "", nil, &UnknownKeyError{KeyID: id, Err: errors.New("its id must be printable UTF-8")} // the key is at fault, not the records
	}
	return id, key, nil
}

// cipherFor returns the cipher that "auto" selects for a key.
func cipherFor(key []byte) string {
	if len(key) == 32 {
		return CipherGCM
	}
	return CipherEAX
}

// plainAllowed prevents a fallback to plain messages: without a key only "auto" sends plain ones, and only until a key has been used.
func (r *keyring) plainAllowed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cfg.Cipher == CipherAuto && r.cfg.KeyID == "" && !r.once {
		return nil
	}
	return &UnknownKeyError{KeyID: r.cfg.KeyID}
}

func (r *keyring) count(k *lock) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.once = true
	if k.cipher != CipherGCM {
		return nil
	}
	if r.used[k.keyID] >= r.limit {
		return &ExhaustedError{KeyID: k.keyID, Limit: r.limit}
	}
	r.used[k.keyID]++
	return nil
}
