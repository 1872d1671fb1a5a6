package models

import (
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// maxSignature is the size of a signature file with two long comments.
const maxSignature = 4 << 10

// Trust are the public keys whose signatures are accepted. The zero value accepts unsigned manifests.
type Trust struct{ keys []minisign.PublicKey }

// ParseTrust reads public keys in minisign's format: the line of base64 alone, or the file with its comment. An empty list requires no
// signatures.
func ParseTrust(keys []string) (Trust, error) {
	var t Trust
	for i, text := range keys {
		var k minisign.PublicKey
		if err := k.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return Trust{}, fmt.Errorf("reading public key %d (%.80q): %w; it is the last line of the file that minisign -G writes with the ending .pub", i, text, err)
		}
		t.keys = append(t.keys, k)
	}
	return t, nil
}

// Required reports whether manifests must be signed.
func (t Trust) Required() bool { return len(t.keys) > 0 }

// Verify checks a signature file of a manifest's bytes: Ed25519 over BLAKE2b-512 of them (ED) or over themselves (Ed, as older minisigns
// wrote it), and the signature of the trusted comment. It returns that comment. Without keys any manifest passes.
func (t Trust) Verify(manifest, signature []byte) (comment string, err error) {
	if !t.Required() {
		return "", nil
	}
	if len(signature) == 0 {
		return "", errors.New("the manifest is not signed, and signatures are required; sign it with minisign -S -m " + ManifestFile)
	}
	if len(signature) > maxSignature {
		return "", fmt.Errorf("the signature has %d bytes, at most %d are allowed", len(signature), maxSignature)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("reading the signature: %w", err)
	}
	for _, k := range t.keys {
		if k.ID() != s.KeyID {
			continue
		}
		if minisign.Verify(k, manifest, signature) {
			return s.TrustedComment, nil
		}
		return "", fmt.Errorf("the signature by key %016X does not fit the manifest", s.KeyID)
	}
	return "", fmt.Errorf("the signature is by key %016X, which is not trusted", s.KeyID)
}
