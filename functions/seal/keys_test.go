package seal

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func seal(t *testing.T, s *Sealer) []byte {
	t.Helper()
	msg, err := s.Seal(nil, goldenBatch())
	require.NoError(t, err)
	return msg
}

func attribute1(t *testing.T, msg []byte, name string) string {
	t.Helper()
	e, err := parse(msg)
	require.NoError(t, err)
	return e.attrs.get(name)
}

// A rotated key seals from the next message on, and old keys still open; the error of a message sealed with a removed key names that key.
func TestRotationNeedsNoRestart(t *testing.T) {
	keys := &keyMap{current: "old", keys: map[string][]byte{"old": pattern(1, 32), "new": pattern(2, 32)}}
	s, err := NewSealer(DefaultConfig(), keys)
	require.NoError(t, err)
	o := NewOpener(keys, Limits{})
	before := seal(t, s)
	keys.current = "new"
	after := seal(t, s)
	require.Equal(t, []string{"old", "new"}, []string{attribute1(t, before, "keyid"), attribute1(t, after, "keyid")})
	for _, msg := range [][]byte{before, after} {
		_, err := o.Open(msg)
		require.NoError(t, err)
	}
	delete(keys.keys, "old")
	_, err = o.Open(before)
	var unknown *UnknownKeyError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, "old", unknown.KeyID)

	keys.keys["new"] = pattern(3, 32) // another key under the id it had
	_, err = o.Open(after)
	require.ErrorIs(t, err, ErrForged)
	_, err = o.Open(seal(t, s))
	require.NoError(t, err)
}

func TestAutoChoosesByKey(t *testing.T) {
	keys := &keyMap{keys: map[string][]byte{"long": pattern(1, 32), "short": pattern(2, 16)}}
	s, err := NewSealer(DefaultConfig(), keys)
	require.NoError(t, err)
	o := NewOpener(keys, Limits{})
	plain := seal(t, s)
	require.Equal(t, CipherNone, attribute1(t, plain, "cipher"))
	_, err = o.Open(plain)
	require.NoError(t, err, "no key is configured, so plain is what there is")

	keys.current = "long" // a secret that is created late
	require.Equal(t, CipherGCM, attribute1(t, seal(t, s), "cipher"))
	keys.current = "short"
	require.Equal(t, CipherEAX, attribute1(t, seal(t, s), "cipher"))
	_, err = o.Open(plain)
	require.ErrorIs(t, err, ErrForged)

	keys.current = "" // the store lost it: nothing goes out plain again
	_, err = s.Seal(nil, goldenBatch())
	var unknown *UnknownKeyError
	require.ErrorAs(t, err, &unknown)
	_, err = o.Open(plain)
	require.ErrorIs(t, err, ErrForged)
}

func TestNoKeyIsAnError(t *testing.T) {
	var unknown *UnknownKeyError
	cfg := DefaultConfig()
	cfg.Cipher = CipherGCM
	s, err := NewSealer(cfg, nil)
	require.NoError(t, err)
	_, err = s.Seal(nil, goldenBatch())
	require.ErrorAs(t, err, &unknown)
	named := DefaultConfig()
	named.KeyID = "k16"
	s, err = NewSealer(named, nil)
	require.NoError(t, err)
	_, err = s.Seal(nil, goldenBatch())
	require.ErrorAs(t, err, &unknown, "who names a key wants no plain messages")

	down := errors.New("secret store is down")
	s, err = NewSealer(DefaultConfig(), &keyMap{err: down})
	require.NoError(t, err)
	_, err = s.Seal(nil, goldenBatch())
	require.ErrorIs(t, err, down, "a store that does not answer is not a store without keys")

	cfg.KeyID = "k16"
	_, err = mustSealer(t, cfg).Seal(nil, goldenBatch())
	require.ErrorContains(t, err, "needs a key of 32 bytes, this one has 16")
	require.NotContains(t, err.Error(), string(pattern(0x10, 16)))
}

func TestKeyIsNotUsedForEver(t *testing.T) {
	keys := &keyMap{current: "a", keys: map[string][]byte{"a": pattern(1, 32), "b": pattern(2, 32)}}
	s, err := NewSealer(DefaultConfig(), keys)
	require.NoError(t, err)
	s.keys.limit = 3
	for range 3 {
		seal(t, s)
	}
	_, err = s.Seal(nil, goldenBatch())
	var exhausted *ExhaustedError
	require.ErrorAs(t, err, &exhausted)
	keys.current = "b"
	seal(t, s)
}

func TestNoNonceNoMessage(t *testing.T) {
	s := mustSealer(t, DefaultConfig())
	s.keys.nonces = strings.NewReader("too short")
	_, err := s.Seal(nil, goldenBatch())
	require.ErrorContains(t, err, "drawing a nonce")
}

// Nonces come from the kernel for each message: there is no state that could be rewound. Two runs of the process from the same state, with the same
// batch and the same key, never share one, nor does the same batch sent again.
func TestNoncesDoNotRepeatAcrossRestarts(t *testing.T) {
	if os.Getenv("SEAL_TEST_CHILD") != "" {
		s := mustSealer(t, DefaultConfig())
		for range 200 {
			e, err := parse(seal(t, s))
			require.NoError(t, err)
			_, _ = os.Stdout.WriteString("nonce " + string(hexOf(e.data[:12])) + "\n")
		}
		return
	}
	seen := map[string]bool{}
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestNoncesDoNotRepeatAcrossRestarts$")
		child.Env = append(os.Environ(), "SEAL_TEST_CHILD=1")
		out, err := child.Output()
		require.NoError(t, err)
		for line := range strings.Lines(string(out)) {
			if nonce, ok := strings.CutPrefix(line, "nonce "); ok {
				require.False(t, seen[nonce], "nonce %s was there before", nonce)
				seen[nonce] = true
			}
		}
	}
	require.Len(t, seen, 600)
}
