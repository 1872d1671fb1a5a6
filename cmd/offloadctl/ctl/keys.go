package ctl

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
)

func keysVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.flags("keys")
	var k newKey
	fs.IntVar(&k.bits, "bits", 256, "key length: 128, 192 or 256")
	fs.StringVar(&k.id, "id", "k"+sh.now().UTC().Format("20060102"), "id of the key, unused in the secret so far; each batch names its key by this id")
	fs.StringVar(&k.secret, "secret", "offload-keys", "name of the secret, as in Offload.KeySecret")
	fs.BoolVar(&k.request, "request", false, "print the body of a request to POST /api/v3/secret instead of the bare key")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) != 1 || rest[0] != "new":
		return fs.misused("needs the word new")
	case k.bits != 128 && k.bits != 192 && k.bits != 256:
		return fs.misused("-bits %d: must be 128, 192 or 256", k.bits)
	case !plainID.MatchString(k.id) || k.id == "current":
		return fs.misused("-id %q: must be 1 to 64 letters, digits, '-', '_' and '.', and not the word current", k.id)
	case !plainID.MatchString(k.secret):
		return fs.misused("-secret %q: must be 1 to 64 letters, digits, '-', '_' and '.'", k.secret)
	}
	return k.make(sh.random, sh.out, sh.err)
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// newKey describes the key to create.
type newKey struct {
	bits       int
	id, secret string
	request    bool
}

// secretRequest is the body of EdgeX's POST /api/v3/secret.
type secretRequest struct {
	APIVersion string        `json:"apiVersion"`
	SecretName string        `json:"secretName"`
	SecretData []secretEntry `json:"secretData"`
}

type secretEntry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// make writes a key of random bytes to out, and instructions to notes.
func (k newKey) make(random io.Reader, out, notes io.Writer) error {
	raw := make([]byte, k.bits/8)
	if _, err := io.ReadFull(random, raw); err != nil {
		return fmt.Errorf("reading %d random bits: %w", k.bits, err)
	}
	key := base64.StdEncoding.EncodeToString(raw)
	if _, err := io.WriteString(notes, k.notes()); err != nil {
		return err
	}
	if k.request {
		return writeJSON(out, secretRequest{"v3", k.secret, []secretEntry{{"current", k.id}, {k.id, key}}})
	}
	_, err := fmt.Fprintln(out, key)
	return err
}

// notes explains how to store the key. It does not contain the key and may be logged.
func (k newKey) notes() string {
	how := strings.NewReplacer("ID", k.id, "SECRET", k.secret, "BITS", fmt.Sprint(k.bits))
	text := `# key "ID", BITS bits. It cannot be recovered: put it into the secret store of the gateway and of the consumer.
# 1. The consumer first, or it cannot open what comes: save the bare key as the file ID in the folder of offload-cloud -keys.
# 2. The gateway: POST this to http://localhost:59740/api/v3/secret (in secure mode with the JWT):
#      {"apiVersion":"v3","secretName":"SECRET","secretData":[{"key":"current","value":"ID"},{"key":"ID","value":"<the key>"}]}
#    This replaces the whole secret: add an entry for each older key, for as long as batches or records on disk need it.
#    Without the secure store, put the same entries under Writable.InsecureSecrets in configuration.yaml.
# 3. Set Offload.KeySecret to "SECRET" once. A later rotation needs no restart.
`
	if k.bits != 256 {
		text += "# A key of BITS bits works with Offload.Seal.Cipher aes-eax only; aes-256-gcm and Offload.Spool.Encrypt need 256.\n"
	}
	return how.Replace(text)
}
