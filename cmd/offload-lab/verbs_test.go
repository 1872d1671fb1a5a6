package main

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
)

// A bench restarts its own program. If that were this test binary, it would run all tests again, including a bench. Links with the names of our
// programs make it act as them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" || os.Getenv("OFFLOAD_LAB_TEST") != "" {
		os.Exit(run(os.Args[1:]))
	}
	switch filepath.Base(os.Args[0]) {
	case "app-offload":
		fakeEdge()
	case "offload-cloud":
		fakeCloud()
	default:
		os.Exit(m.Run())
	}
}

// The help of judging and learning verbs is complete: purpose, output, files and exit codes.
func TestHelpIsComplete(t *testing.T) {
	for _, name := range []string{"simulate", "train", "compare", "replay", "report", "against", "live"} {
		text, _ := stderrOf(t, name, "-h")
		for _, part := range []string{"offload-lab " + name, "Purpose:", "Files:", "Exit codes:"} {
			require.Contains(t, text, part, name)
		}
		require.True(t, strings.Contains(text, "Output") || strings.Contains(text, "Input"), name)
	}
}

// stdoutOf is the output of a verb.
func stdoutOf(t *testing.T, run func() error) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(file)
	require.NoError(t, err)
	before := os.Stdout
	os.Stdout = f
	err = run()
	os.Stdout = before
	require.NoError(t, err)
	require.NoError(t, f.Close())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// Files connect the verbs: a simulated decision log is replayed, and the page shows all of it.
func TestVerbsAreJoinedByFiles(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	keep := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	simulate := func(args ...string) string {
		return stdoutOf(t, func() error { return simulateVerb(ctx, args) })
	}
	text := simulate("-policy", "cost", "-explore", "0.2", "-records")
	require.Equal(t, text, simulate("-policy", "cost", "-explore", "0.2", "-records"), "equal seeds, equal bytes")
	log := keep("decisions.jsonl", text)
	n := 0
	for r, err := range decision.ReadRecords(strings.NewReader(text)) {
		require.NoError(t, err)
		require.True(t, r.Outcome.Known)
		n++
	}
	require.Equal(t, 600, n)

	replayed := stdoutOf(t, func() error { return replayVerb(ctx, []string{"-policies", "cost,edge", "-json", log}) })
	require.Equal(t, 3, strings.Count(replayed, "\n"))
	require.Contains(t, stdoutOf(t, func() error { return replayVerb(ctx, []string{"-policies", "cost", "-measure", "miss", log}) }), "miss by DR")
	require.ErrorContains(t, replayVerb(ctx, []string{"-measure", "beauty", log}), "beauty")

	steps := simulate("-policy", "cost,greedy")
	require.Equal(t, 1200, strings.Count(steps, "\n"))
	board := stdoutOf(t, func() error { return compareVerb(ctx, []string{"-episodes", "2", "-policies", "cost,greedy", "-json"}) })
	out := filepath.Join(dir, "page.html")
	require.NoError(t, reportVerb(ctx, []string{"-out", out, keep("replay", replayed), keep("steps", steps), keep("board", board)}))
	page, err := os.ReadFile(out)
	require.NoError(t, err)
	for _, id := range []string{"regret", "board", "times", "price", "map", "replay"} {
		require.Contains(t, string(page), `<section id="`+id+`">`)
	}
	require.Error(t, reportVerb(ctx, []string{log}), "a decision log is no result")
}

// A run that cannot start reports the reason once, as the last line, and leaves no files, in its own folder or in a new named one.
func TestARunThatCannotStartSaysWhyAndLeavesNoFolder(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"app-offload", "offload-cloud"} {
		script := "#!/bin/sh\necho level=INFO starting\n[ " + name + " = offload-cloud ] && exec sleep 60\necho 'level=ERROR msg=\"no room\"'\nexit 3\n"
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700)) // #nosec G306 -- a program
	}
	for _, args := range [][]string{{}, {"-dir", filepath.Join(t.TempDir(), "new", "folder")}} {
		temp := t.TempDir()
		t.Setenv("TMPDIR", temp)
		err := runVerb(t.Context(), append(args, "-bin", bin, "-res", "../../res"))
		require.ErrorContains(t, err, "app-offload ended with exit status 3")
		require.True(t, strings.HasSuffix(err.Error(), `level=ERROR msg="no room"`), err)
		require.Equal(t, 1, strings.Count(err.Error(), "no room"))
		require.Equal(t, 1, strings.Count(err.Error(), "ended with"))
		left, globErr := filepath.Glob(filepath.Join(temp, "*"))
		require.NoError(t, globErr)
		require.Empty(t, left)
		if len(args) > 0 {
			require.NoDirExists(t, args[1])
		}
	}
	kept := t.TempDir()
	require.ErrorContains(t, runVerb(t.Context(), []string{"-dir", kept, "-bin", t.TempDir()}), "no such file")
	require.DirExists(t, kept, "a folder that was there stays")
}

// Every verb that runs the whole system creates a missing folder.
func TestTheFolderOfARunIsMade(t *testing.T) {
	for _, c := range []struct {
		verb func(context.Context, []string) error
		args []string
	}{{againstVerb, nil}, {liveVerb, nil}, {benchVerb, []string{"-broker", "mosquitto", "-mosquitto", "/nonexistent/mosquitto"}}} {
		dir := filepath.Join(t.TempDir(), "new", "folder")
		require.Error(t, c.verb(t.Context(), append(c.args, "-dir", dir, "-bin", t.TempDir(), "-res", "../../res")))
		require.FileExists(t, filepath.Join(dir, "log"))
	}
}

// A verb's output goes through a link and into a pipe or a device, which stay.
func TestWhereAFileIsWritten(t *testing.T) {
	dir, words := t.TempDir(), func(w io.Writer) error { _, err := w.Write([]byte("words")); return err }
	target, link, pipe, fresh := filepath.Join(dir, "target"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "fresh")
	require.NoError(t, os.WriteFile(target, []byte("old"), 0o600))
	require.NoError(t, os.Symlink(target, link))
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	early, created := filepath.Join(dir, "early"), filepath.Join(dir, "created")
	require.NoError(t, os.Symlink("created", early))
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	defer reader.Close()
	for _, path := range []string{link, pipe, fresh, early} {
		require.NoError(t, tryFile(path))
	}
	text, err := os.ReadFile(link)
	require.NoError(t, err)
	require.Equal(t, "old", string(text), "a try leaves what is there")
	require.NoFileExists(t, fresh)
	for _, path := range []string{link, pipe, fresh, early} {
		require.NoError(t, writeFile(path, words))
	}
	for _, path := range []string{target, link, fresh, created} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "words", string(text))
	}
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink, info.Mode().Type(), "the link stays")
	info, err = os.Lstat(pipe)
	require.NoError(t, err)
	require.Equal(t, fs.ModeNamedPipe, info.Mode().Type(), "the pipe stays")
	b := make([]byte, 10)
	n, err := reader.Read(b)
	require.NoError(t, err)
	require.Equal(t, "words", string(b[:n]))
	require.ErrorContains(t, writeFile(dir, words), "is a directory")
	left, err := filepath.Glob(filepath.Join(dir, "*.*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// A verb that blocks on reading ends at the second signal.
func TestASecondSignalEndsAnyVerb(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	cmd := exec.CommandContext(t.Context(), program, "report", pipe)
	cmd.Env = append(os.Environ(), "OFFLOAD_LAB_TEST=1")
	require.NoError(t, cmd.Start())
	writes, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once the verb reads
	require.NoError(t, err)
	defer writes.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case err := <-ended:
			require.ErrorContains(t, err, "signal: interrupt")
			return
		case <-tick:
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
}

// A full disk is reported once.
func TestAFullDiskIsReportedOnce(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	before := os.Stdout
	defer func() { os.Stdout = before }()
	os.Stdout = full
	for name, run := range map[string]func() error{
		"generate": func() error { return generate(t.Context(), full, io.Discard, 1, time.Second, stillNode{}) },
		"simulate": func() error { return simulateVerb(t.Context(), nil) },
		"records":  func() error { return simulateVerb(t.Context(), []string{"-records"}) },
		"federate": func() error {
			return federateVerb(t.Context(), []string{"-fleets", "1", "-nodes", "3", "-newcomers", "1", "-policies", "edge"})
		},
	} {
		err = run()
		require.Error(t, err, name)
		require.Equal(t, 1, strings.Count(err.Error(), "no space left"), name)
	}
}

type stillNode struct{}

func (stillNode) State() *host.State { return &host.State{} }

// Each verb rejects invalid arguments before it does anything.
func TestEveryVerbChecksItsArguments(t *testing.T) {
	for _, c := range []struct {
		verb string
		args []string
		want string
	}{
		{"run", []string{"-rate", "0"}, "-rate"},
		{"run", []string{"-rate", "NaN"}, "-rate"},
		{"run", []string{"-rate", "1e12"}, "-rate"},
		{"run", []string{"-rate", "1e-12"}, "-rate"},
		{"live", []string{"-policies", "cost,luck"}, `policy "luck"`},
		{"live", []string{"-loads", "1", "-policies", "cost,luck"}, `policy "luck"`},
		{"federate", []string{"-policies", "cost,luck"}, `policy "luck"`},
		{"run", []string{"-duration", "-1s"}, "-duration"},
		{"run", []string{"20s"}, "unknown argument"},
		{"generate", []string{"-duration", "-1s"}, "-duration"},
		{"train", []string{"more"}, "unknown argument"},
		{"train", []string{"-steps", "-5"}, "-steps -5"},
		{"train", []string{"-data", "/nonexistent"}, "/nonexistent"},
		{"train", []string{"-episodes", "-1"}, "-episodes -1"},
		{"simulate", []string{"-episodes", "0"}, "-episodes"},
		{"simulate", []string{"-explore", "0.6"}, "-explore"},
		{"simulate", []string{"-policy", "wisdom"}, "wisdom"},
		{"compare", []string{"-episodes", "0"}, "-episodes"},
		{"compare", []string{"cost"}, "unknown argument"},
		{"compare", []string{"-tail", "NaN"}, "-tail NaN"},
		{"compare", []string{"-tail", "-1"}, "-tail -1"},
		{"compare", []string{"-tail-from", "20"}, "-tail-from 20"},
		{"compare", []string{"-tail-to", "Inf"}, "-tail-to +Inf"},
		{"train", []string{"-tail-from", "NaN"}, "-tail-from NaN"},
		{"compare", []string{"-belief", "NaN"}, "-belief"},
		{"simulate", []string{"-belief", "Inf"}, "-belief"},
		{"federate", []string{"-epsilon", "NaN"}, "epsilon"},
		{"federate", []string{"-weight", "-1"}, "Weight"},
		{"federate", []string{"-nodes", "2"}, "-nodes 2"},
		{"federate", []string{"-nodes", "401"}, "-nodes 401"},
		{"federate", []string{"-fleets", "0"}, "-fleets 0"},
		{"federate", []string{"-newcomers", "0"}, "-newcomers 0"},
		{"federate", []string{"-newcomers", "401"}, "-newcomers 401"},
		{"replay", []string{"-measure", "beauty"}, "-measure"},
		{"replay", []string{"/nonexistent"}, "/nonexistent"},
		{"replay", []string{"-weights", "/nonexistent/ppo.json", "-policies", "ppo"}, "/nonexistent/ppo.json"},
		{"report", []string{"/nonexistent"}, "/nonexistent"},
		{"against", []string{"-rounds", "0"}, "-rounds"},
		{"against", []string{"-within", "-1"}, "-within"},
		{"faults", []string{"-rounds", "-1"}, "-rounds"},
		{"faults", []string{"-rate", "NaN"}, "-rate"},
		{"faults", []string{"-rate", "1e12"}, "-rate"},
		{"faults", []string{"-check", "0"}, "-check"},
		{"faults", []string{"-kind", "luck"}, "luck"},
		{"faults", []string{"-scenario", "flood"}, "flood"},
		{"faults", []string{"hung"}, "unknown argument"},
		{"model", []string{"train"}, "-out is missing"},
		{"model", []string{"train", "-out", t.TempDir(), "-only", "wisdom"}, "wisdom"},
		{"model", []string{"train", "-out", t.TempDir(), "-only", "bearing-anomaly", "-variant", "cloud"}, "bearing-anomaly"},
		{"model", []string{"train", "-out", t.TempDir(), "-variant", "fog"}, "fog"},
		{"model", []string{"train", "-out", t.TempDir(), "-version", "v1"}, "-version"},
		{"model", []string{"train", "-out", "/dev/null/models"}, "-out"},
		{"export", []string{"-lang", "rust", "-out", "x", "y"}, "-lang"},
		{"export", []string{"-name", "A", "-out", "x", "y"}, "-name"},
		{"export", []string{"-name", "a", "-out", filepath.Join(t.TempDir(), "x")}, "or -policy"},
		{"export", []string{"-policy", "wisdom", "-name", "a", "-out", filepath.Join(t.TempDir(), "x")}, "wisdom"},
		{"export", []string{"-policy", "defer", "-name", "a", "-out", filepath.Join(t.TempDir(), "x")}, "durable queue"},
		{"export", []string{"-policy", "cost", "-name", "a", "-out", filepath.Join(t.TempDir(), "x"), "main.go"}, "main.go"},
		{"bench", []string{"hard"}, "folder of models"},
		{"bench", []string{"hard", "-share", "NaN", "x"}, "-share"},
		{"bench", []string{"hard", "-share", "1.01", "x"}, "-share"},
		{"bench", []string{"hard", "-share", "1", "/nonexistent"}, "/nonexistent"},
		{"bench", []string{"hard", "-share", "0.0009", "x"}, "-share"},
		{"bench", []string{"hard", "-seeds", "0", "x"}, "-seeds"},
		{"bench", []string{"hard", "-seeds", "1001", "x"}, "-seeds"},
		{"bench", []string{"hard", "-samples", "99", "x"}, "-samples"},
		{"bench", []string{"hard", "-only", "wisdom", "../../res/models"}, `no model has the name "wisdom"`},
		{"bench", []string{"hard", "-samples", "1000001", "x"}, "-samples"},
		{"model", []string{"-memory", "1", "/dev/zero"}, "larger than 1 MiB"},
		{"model", []string{"-memory", "1", "-manifest", "m", "/dev/zero"}, "larger than 1 MiB"},
		{"model", []string{"-ask", "parts", "-input", "/dev/zero", "../../res/models"}, "larger than 64 MiB"},
		{"model", []string{"-ask", "parts", "../../res/models"}, "-input need each other"},
		{"model", []string{"-input", "x", "../../res/models"}, "-input need each other"},
		{"bench", []string{"nab"}, "name one folder"},
		{"bench", []string{"nab", "/nonexistent"}, "/nonexistent"},
		{"train", []string{"-env", "cartpole", "-curve", "/nonexistent/curve"}, "opening the learning curve"},
		{"generate", []string{"-truth", "/nonexistent/truth"}, "/nonexistent"},
		{"bench", []string{"-events", "0"}, "-events"},
		{"bench", []string{"-policies", "wisdom"}, "wisdom"},
		{"bench", []string{"-confirm", "hope"}, "hope"},
		{"bench", []string{"-form", "xml"}, "xml"},
	} {
		temp := t.TempDir()
		t.Setenv("TMPDIR", temp)
		i := slices.IndexFunc(verbs(), func(v verb) bool { return v.name == c.verb })
		require.ErrorContains(t, verbs()[i].run(t.Context(), c.args), c.want, "%s %v", c.verb, c.args)
		left, err := filepath.Glob(filepath.Join(temp, "*"))
		require.NoError(t, err)
		require.Empty(t, left, "%s %v", c.verb, c.args)
	}
}
