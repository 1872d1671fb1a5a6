package seal

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The accepted values of the configuration.
func TestWhatTheConfigurationAccepts(t *testing.T) {
	require.Equal(t, `CompressionLevel 1 to 4
MaxMessageKiB 4 to 262144
MaxDataMiB 1 to 1024`, bounds.Of(DefaultConfig()))
}

// A key that would seal nothing is most likely a mistake, and an unprintable id is one.
func TestWhichKeyIDsAreAccepted(t *testing.T) {
	for _, row := range []struct {
		id, cipher, want string
	}{
		{"", CipherNone, ""},
		{"", CipherAuto, ""},
		{"k1", CipherAuto, ""},
		{"k1", CipherGCM, ""},
		{"k1", CipherEAX, ""},
		{"k1", CipherNone, "is useless with Cipher none"},
		{"k\n", CipherAuto, "must be printable UTF-8"},
		{"\xff", CipherGCM, "must be printable UTF-8"},
	} {
		c := DefaultConfig()
		c.KeyID, c.Cipher = row.id, row.cipher
		if err := c.Validate(); row.want == "" {
			require.NoError(t, err, "%+v", row)
		} else {
			require.ErrorContains(t, err, row.want, "%+v", row)
			require.ErrorContains(t, err, "Seal.KeyID = ")
		}
	}
}

// The largest record leaves room for the message's other content, is never less than 1 KiB, and fits what a consumer unpacks.
func TestTheLargestRecord(t *testing.T) {
	for _, row := range []struct{ message, data, want int }{
		{1024, 64, 1024<<10*3/4 - 8<<10}, {4, 64, 1 << 10}, {12, 64, 1 << 10}, {13, 64, 13<<10*3/4 - 8<<10}, {262144, 1, 1 << 20 * 3 / 4}, {2048, 2, 2048<<10*3/4 - 8<<10},
	} {
		c := DefaultConfig()
		c.MaxMessageKiB, c.MaxDataMiB = row.message, row.data
		require.Equal(t, row.want, c.LargestRecord(), "%+v", row)
	}
}

// An event is readable up to the nesting that both directions allow.
func TestHowDeepAReadableEventIs(t *testing.T) {
	deep := func(arrays int) []byte { return []byte("\xa1\x61a" + strings.Repeat("\x81", arrays) + "\x00") }
	require.Equal(t, `{"a":[0]}`, string(readableCBOR(deep(1))))
	require.NotNil(t, readableCBOR(deep(cborDepth-1)))
	require.Nil(t, readableCBOR(deep(cborDepth)))
}
