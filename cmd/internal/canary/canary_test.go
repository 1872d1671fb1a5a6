package canary

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every encoding of a leaked secret is detected, and similar text is not.
func TestFind(t *testing.T) {
	f := Flock{}
	secret := f.Plant("password", "canary/bird+42?")
	for _, text := range []string{
		"error: " + secret + "!", hex.EncodeToString([]byte("x" + secret + "y")), fmt.Sprintf("%X", secret), fmt.Sprint([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("u:" + secret + ":z")),
		base64.URLEncoding.EncodeToString([]byte("u" + secret)), "postgres://u:" + url.QueryEscape(secret) + "@h/d", fmt.Sprintf("%q", "\n"+secret),
	} {
		require.NotEmpty(t, f.Find(text), text)
	}
	require.Empty(t, f.Find("a canary/bird and 42 others"))
	f.Plant("key", "-----BEGIN KEY-----\nabcdefghijkl\nmnopqrstuvwx\n-----END KEY-----\n")
	require.NotEmpty(t, f.Find("-----BEGIN KEY----- mnopqrstuvwx"))
	require.Empty(t, f.Find("-----BEGIN KEY-----"))
	require.Equal(t, "01020304", Flock{}.PlantKey("k", []byte{1, 2, 3, 4}))
}
