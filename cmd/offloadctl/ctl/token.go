package ctl

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// tokens gives the JWT for secure mode: the one given, or what a file holds, which is read anew each time, since a JWT runs
// out within the hour and somebody writes the next one there. It is safe for concurrent use.
type tokens struct {
	given string
	file  string
	in    io.Reader // stands for the file "-"

	mu   sync.Mutex
	last string // read before; it stays in use while the file is gone or empty, as one is that is just being written
}

// tokens is where the flags and the environment say that the token comes from.
func (f *apiFlags) tokens(sh *shell) *tokens {
	t := &tokens{given: f.token, file: f.tokenFile, in: sh.in}
	if t.given == "" && t.file == "" {
		t.given, _ = sh.lookup("OFFLOAD_TOKEN")
	}
	return t
}

// maxToken bounds a token, in bytes; a web server takes no longer header.
const maxToken = 64 << 10

// get is the token of this moment, "" where none is wanted.
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

// plainToken refuses what cannot stand in a header, without showing it.
func plainToken(text, from string) (string, error) {
	token := strings.TrimSpace(text)
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s holds no token: it must be one word of plain letters, such as eyJhbGciOi…", from)
		}
	}
	return token, nil
}
