package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

// stderrOf is the program's standard error and its exit code.
func stderrOf(t *testing.T, args ...string) (string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "err")
	f, err := os.Create(file)
	require.NoError(t, err)
	before := os.Stderr
	os.Stderr = f
	code := run(args)
	os.Stderr = before
	require.NoError(t, f.Close())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text), code
}

// flagLine begins the help of a flag, and byDefault ends it.
var flagLine, byDefault = regexp.MustCompile(`^  (-\S+.*)`), regexp.MustCompile(`\(default (.*)\)$`)

// Each verb has the recorded flags with the recorded defaults, and a request for help is not a failure.
func TestEachVerbHasItsFlags(t *testing.T) {
	var all strings.Builder
	for _, name := range names()[2:] {
		text, code := stderrOf(t, name, "-h")
		require.Zero(t, code, name)
		require.Contains(t, text, "Usage: offload-lab "+name+" [flags]\n\nExamples:\n")
		for line := range strings.Lines(text[strings.Index(text, "\nFlags:\n"):]) {
			if found := flagLine.FindStringSubmatch(strings.TrimRight(line, "\n")); found != nil {
				all.WriteString("\n" + name + " " + found[1])
			} else if found := byDefault.FindStringSubmatch(strings.TrimRight(line, "\n")); found != nil && len(found[1]) < 19 { // a time in ns has more
				all.WriteString(" = " + found[1])
			}
		}
	}
	golden.Require(t, "flags.golden", all.String()+"\n")
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 0, "Usage: offload-lab VERB"},
		{"-h", 0, "Usage:"},
		{"--help", 0, "Usage:"},
		{"reprot", 2, `unknown verb "reprot"`},
		{"compare -episodes x", 1, "offload-lab compare: "},
		{"compare seed", 1, "did you mean -seed?"},
		{"compare qqqqqqqqqq", 1, "this verb takes flags only\n"},
	} {
		text, code := stderrOf(t, strings.Fields(c.args)...)
		require.Equal(t, c.code, code, c.args)
		require.Contains(t, text, c.says, c.args)
	}
	for _, word := range []string{"version", "-version", "--version"} {
		require.Contains(t, stdoutOf(t, func() error { require.Zero(t, run([]string{word})); return nil }), "offload-lab ")
	}
}
