package ctl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/common"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

func TestKeysNew(t *testing.T) {
	random := bytes.Repeat([]byte{0xa5}, 32)
	for bits, length := range map[string]int{"128": 16, "192": 24, "256": 32} {
		r := call{random: random}.run("keys", "new", "-bits", bits, "-id", "k2")
		require.Equal(t, exitFine, r.code, r.err)
		raw, err := base64.StdEncoding.DecodeString(r.out[:len(r.out)-1])
		require.NoError(t, err)
		require.Equal(t, random[:length], raw)
		require.NotContains(t, r.err, r.out[:len(r.out)-1], "the advice holds no key, so that it may be kept")
	}
	r := call{random: random}.run("keys", "new")
	golden.Require(t, "keys.golden", r.err)

	// EdgeX accepts the request.
	r = call{random: random}.run("keys", "new", "-request", "-id", "k2", "-secret", "mine")
	var req common.SecretRequest
	require.NoError(t, json.Unmarshal([]byte(r.out), &req))
	require.Equal(t, "mine", req.SecretName)
	require.Equal(t, []common.SecretDataKeyValue{{Key: "current", Value: "k2"}, {Key: "k2", Value: base64.StdEncoding.EncodeToString(random)}}, req.SecretData)

	r = call{random: random[:5]}.run("keys", "new")
	require.Equal(t, exitFailed, r.code)
	require.Empty(t, r.out, "half a key must not be printed")
}
