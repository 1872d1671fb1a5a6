package ctl

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// tokens provides the JWT for secure mode: the given one, or the content of a file. It reads the file each time, since a JWT expires within the hour
// and another program replaces it there. Safe for concurrent use.
type tokens struct {
	given string
	file  string
	in    io.Reader // the file "-"

	mu   sync.Mutex
	last string // the previous token; it stays in use while the file is missing or empty, such as during a write
}

// tokens selects the source of the token from the flags and the environment.
func (f *apiFlags) tokens(sh *shell) *tokens {
	t := &tokens{given: f.token, file: f.tokenFile, in: sh.in}
	if t.given == "" && t.file == "" {
		t.given, _ = sh.lookup("OFFLOAD_TOKEN")
	}
	return t
}

// maxToken is the maximum size of a token in bytes; web servers accept no longer header.
const maxToken = 64 << 10

// get returns the current token, "" if none is configured.
func (t *tokens) get() (string, error) {
	if t.file == "" || t.given != "" {
		return plainToken(t.given, "the token")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "-" && t.last != "" {
		return t.last, nil
	}
	token, err := t.read()
	if err != nil && t.last != "" {
		return t.last, nil
	}
	t.last = token
	return token, err
}

func (t *tokens) read() (string, error) {
	from, name := t.in, "the standard input"
	if t.file != "-" {
		f, err := os.Open(t.file)
		if err != nil {
			return "", fmt.Errorf("-token-file: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		from, name = f, t.file
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxToken))
	if err != nil {
		return "", fmt.Errorf("-token-file: reading %s: %w", name, err)
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return "", fmt.Errorf("-token-file: %s is empty; it must hold a JWT", name)
	}
	return plainToken(string(raw), name)
}

// plainToken rejects a token that does not fit in a header, without showing it.
func plainToken(text, from string) (string, error) {
	token := strings.TrimSpace(text)
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s holds no token: must be one word of plain characters, such as eyJhbGciOi…", from)
		}
	}
	return token, nil
}
