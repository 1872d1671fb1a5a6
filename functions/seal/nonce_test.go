package seal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No nonce is used twice with one key, across restarts and repetitions: a sealer keeps no state from which one could be repeated, so that even the
// same batch, sealed again by a restarted node or by another node, has a fresh one.
func TestNonceNeverRepeatsOverRestarts(t *testing.T) {
	for _, v := range []variant{
		{FormProtobuf, CipherGCM, "k32", CompressionZstd, true}, {FormProtobuf, CipherEAX, "k16", CompressionZstd, true},
	} {
		seen := map[string]bool{}
		for range 100 {
			s := mustSealer(t, v.config()) // a new life
			for range 20 {
				msg, err := s.Seal(nil, goldenBatch())
				require.NoError(t, err)
				e, err := parse(msg)
				require.NoError(t, err)
				n := 12
				if v.cipher == CipherEAX {
					n = 16
				}
				nonce := string(e.data[:n])
				require.False(t, seen[nonce], "%s: nonce %x came twice", v, nonce)
				seen[nonce] = true
			}
		}
		require.Len(t, seen, 2000)
	}
}
