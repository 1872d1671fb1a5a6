package mqtt

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Bus, link and consumer share the schemes, with their ports.
func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"tcp://a": "a:1883", "mqtt://a": "a:1883", "ws://a/mqtt?x": "a:80", "mqtt://a/": "a:1883", "ssl://a": "a:8883", "tls://a": "a:8883", "tcps://a": "a:8883",
		"mqtts://a": "a:8883", "wss://a": "a:443", "tcp://a:1": "a:1", " tcp://a:65535 ": "a:65535", "SSL://[::1]": "[::1]:8883",
	} {
		a, err := ParseAddress(text)
		require.NoError(t, err, text)
		require.Equal(t, want, a.Host, text)
		require.Equal(t, a.Scheme == "wss" || strings.HasSuffix(a.Host, ":8883"), a.TLS, text)
		again, err := ParseAddress(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
	}
	for text, want := range map[string]error{
		"": ErrAddress, "host:1883": ErrAddress, "tcp://": ErrAddress, "tcp://a:0": ErrAddress, "tcp://a:65536": ErrAddress,
		"tcp://a:x": ErrAddress, "quic://a": ErrScheme, "tcp://a/mqtt": ErrPath, "mqtts://a:8883/?x": ErrPath, "tcp://a?": ErrPath, "mqtt://a#x": ErrPath, "tcp://u:p@a": ErrPassword,
	} {
		_, err := ParseAddress(text)
		require.ErrorIs(t, err, want, text)
		_, err = ParseAddresses("tcp://a," + text)
		require.ErrorIs(t, err, want, text)
		require.NotContains(t, err.Error(), "u:p")
		require.NotContains(t, Redacted(text), "u:p")
	}
	require.Equal(t, "tcp://u:xxxxx@a", Redacted(" tcp://u:p@a"))
	require.Equal(t, "(hidden)", Redacted("tcp://u:p@%zz"))
}

// Each scheme has its port, and uses TLS or a web socket accordingly.
func TestWhatASchemeMeans(t *testing.T) {
	for scheme, want := range map[string][3]any{
		"tcp": {"1883", false, false}, "mqtt": {"1883", false, false}, "ssl": {"8883", true, false}, "tls": {"8883", true, false}, "tcps": {"8883", true, false},
		"mqtts": {"8883", true, false}, "ws": {"80", false, true}, "wss": {"443", true, true},
	} {
		a, err := ParseAddress(scheme + "://broker")
		require.NoError(t, err, scheme)
		require.Equal(t, [3]any{strings.TrimPrefix(a.Host, "broker:"), a.TLS, a.WebSocket}, want, scheme)
	}
}
