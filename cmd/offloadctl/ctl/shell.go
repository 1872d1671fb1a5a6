package ctl

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// processShell is the real one.
func processShell() *shell {
	return &shell{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv, environ: os.Environ, now: time.Now, random: rand.Reader,
		terminal: isTerminal(os.Stdout),
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// open opens a file to read; "-" is the standard input.
func (sh *shell) open(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(sh.in), nil
	}
	return os.Open(path) // #nosec G304 G703 -- the user's own file
}

// writeJSON writes a value for other programs: indented, and without escapes made for HTML.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}
