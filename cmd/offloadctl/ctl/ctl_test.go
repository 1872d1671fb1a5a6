package ctl

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// call is one run of the tool with its environment.
type call struct {
	stdin   string
	environ []string
	random  []byte
	ctx     context.Context
}

// result is the result of a run.
type result struct {
	code     int
	out, err string
}

func (c call) run(args ...string) result {
	var out, err bytes.Buffer
	sh := &shell{
		in: strings.NewReader(c.stdin), out: &out, err: &err,
		environ: func() []string { return c.environ },
		lookup: func(name string) (string, bool) {
			for _, e := range c.environ {
				if value, ok := strings.CutPrefix(e, name+"="); ok {
					return value, true
				}
			}
			return "", false
		},
		now:    func() time.Time { return time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC) },
		random: bytes.NewReader(c.random),
	}
	ctx := c.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	code := run(ctx, sh, args)
	return result{code, out.String(), err.String()}
}

// Wrong usage exits with 2 and names the right one; help exits with 0 and shows examples.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "Usage: offloadctl VERB"},
		{"-h", exitFine, "status"},
		{"nonsense", exitUsage, `unknown verb "nonsense"`},
		{"status -nonsense", exitUsage, "flag provided but not defined"},
		{"status -jsn", exitUsage, "flag provided but not defined: -jsn; did you mean -json?; see"},
		{"status -zzzzzzzz", exitUsage, "flag provided but not defined: -zzzzzzzz; see"},
		{"status now", exitUsage, "no arguments"},
		{"status -every 1ms", exitUsage, "at least 100ms"},
		{"status -url localhost", exitFailed, "must be like http://localhost:59740"},
		{"status -url http://u:hunter2@h", exitFailed, "without user name"},
		{"explain", exitUsage, "needs the id"},
		{"explain pump", exitUsage, "must be the number"},
		{"decisions -n 0", exitUsage, "between 1 and 1000"},
		{"decisions -n 1001", exitUsage, "between 1 and 1000"},
		{"decisions -target mars", exitUsage, "local or cloud"},
		{"decisions all", exitUsage, "no arguments"},
		{"task", exitUsage, "-size is missing"},
		{"task 200", exitUsage, "takes flags only"},
		{"task -size NaN", exitUsage, "must be finite"},
		{"task -size 1 -deadline Inf", exitUsage, "must be finite"},
		{"status -url http://localhost:99999", exitFailed, "must be like http://localhost:59740"},
		{"status -url http://localhost:0", exitFailed, "must be like http://localhost:59740"},
		{"status -h now", exitFine, "Usage: offloadctl status [flags]"},
		{"help", exitFine, "status"},
		{"help keys", exitFine, "Usage: offloadctl keys new [flags]"},
		{"help nonsense", exitUsage, `unknown verb "nonsense"`},
		{"spool", exitUsage, "  inspect "},
		{"spool -h", exitFine, "  inspect "},
		{"spool help verify", exitFine, "Usage: offloadctl spool verify DIR [flags]"},
		{"config -h", exitFine, "  lint "},
		{"spool mend /x", exitUsage, `unknown verb "mend"`},
		{"spool verify", exitUsage, "needs one directory"},
		{"config", exitUsage, "  lint "},
		{"config live now", exitUsage, "takes no arguments"},
		{"config lint", exitUsage, "needs one file"},
		{"config echo", exitUsage, "needs one file"},
		{"config diff a b", exitUsage, "needs one file"},
		{"config dry-run x.yaml", exitUsage, "-feed is missing"},
		{"config dry-run -feed - -", exitUsage, "cannot both"},
		{"config dry-run x.yaml -feed y -link maybe", exitUsage, "up or down"},
		{"config dry-run x.yaml -feed y -cpu 101", exitUsage, "between 0 and 100"},
		{"config dry-run x.yaml -feed y -mbit -1", exitUsage, "must be finite and not negative"},
		{"config dry-run x.yaml -feed y -queue Inf", exitUsage, "must be finite and not negative"},
		{"config lint /does/not/exist", exitFailed, "opening the configuration"},
		{"keys", exitUsage, "needs the word new"},
		{"keys new -bits 100", exitUsage, "128, 192 or 256"},
		{"keys new -id current", exitUsage, "not the word current"},
		{"keys new -secret a/b", exitUsage, "letters, digits"},
	} {
		r := call{}.run(strings.Fields(c.args)...)
		require.Equal(t, c.code, r.code, "offloadctl %s: %s%s", c.args, r.out, r.err)
		require.Contains(t, r.out+r.err, c.says, "offloadctl %s", c.args)
		require.NotContains(t, r.out+r.err, "hunter2")
	}
}

// Every verb prints its manual to the standard output, and sends no request for that. A mistake prints one line.
func TestHelpOfEveryVerb(t *testing.T) {
	var walk func(prefix string, list []verb)
	walk = func(prefix string, list []verb) {
		for _, v := range list {
			require.NotEmpty(t, v.summary)
			name := prefix + v.name
			r := call{}.run(append(strings.Fields(name), "-h")...)
			require.Equal(t, exitFine, r.code, name)
			require.Empty(t, r.err, name)
			at := 0
			for _, section := range []string{"Usage: offloadctl " + name, "\n\nPurpose:\n  ", "\n\nExamples:\n  ", ":\n  ", "\n\nFiles:\n  ", "\n\nExit codes:\n  0 "} {
				next := strings.Index(r.out[at:], section)
				require.NotEqual(t, -1, next, "%s lacks %q behind:\n%s", name, section, r.out[:at])
				at += next + len(section)
			}
			for line := range strings.SplitSeq(r.out, "\n") {
				require.LessOrEqual(t, utf8.RuneCountInString(line), 135, "%s: %s", name, line)
			}
			group := groups()[name]
			require.Equal(t, group == nil, strings.Contains(r.out, "\n\nFlags:\n  -"), name)
			r = call{}.run(append(strings.Fields(name), "-nonsense")...)
			require.Equal(t, exitUsage, r.code)
			require.Equal(t, 1, strings.Count(r.err, "\n"), r.err)
			walk(name+" ", group)
		}
	}
	walk("", verbs())
}

func groups() map[string][]verb {
	return map[string][]verb{"spool": spoolVerbs(), "config": configVerbs()}
}

// Names from outside must not move the cursor of the terminal.
func TestCleanTakesControlsAway(t *testing.T) {
	require.Equal(t, "pump�[2J 1 µs", clean("pump\x1b[2J 1 µs"))
}

func TestNumbers(t *testing.T) {
	for have, want := range map[string]string{
		age(0): "0 s", age(48.4): "48 s", age(720): "12 min", age(10800): "3 h", age(800000): "9 days",
		duration(0.0005): "500 µs", duration(0.000059): "59 µs", duration(0): "0.0 ms", percent(0.3): "under 1 %", percent(99.9): "over 99 %", percent(0): "0 %", percent(100): "100 %", duration(0.08): "80.0 ms", duration(2): "2.00 s", duration(700): "12 min", duration(-1): "-1.00 s",
		size(12): "12 B", size(2048): "2.0 KiB", size(3 << 20): "3.0 MiB", size(5 << 30): "5.0 GiB",
		count(0): "0", count(999): "999", count(1000): "1,000", count(-1234567): "-1,234,567",
		mib(0): "0", mib(5): "under 1", mib(3 << 30): "3,072",
	} {
		require.Equal(t, want, have)
	}
}
