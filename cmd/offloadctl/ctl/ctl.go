// Package ctl is the operator's tool on the gateway. It shows the state, the decisions and the page of a running app-offload, inspects the spool of a
// stopped one, and checks a configuration before the service loads it. Each verb has its own file.
package ctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/halt"
	"app-offload/functions/version"
)

// Name is the program name under which app-offload runs as this tool.
const Name = "offloadctl"

// The exit codes, the same for every verb.
const (
	exitFine     = 0
	exitFailed   = 1 // failure, or mistakes or damage found
	exitUsage    = 2
	exitNotReady = 3 // status: the service answers but is not ready
)

// shell is the process environment of a verb; tests replace it.
type shell struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool) // the environment
	environ  func() []string
	now      func() time.Time
	random   io.Reader // source of keys
	terminal bool      // out is a terminal
}

// verb is a subcommand.
type verb struct {
	name, summary string
	run           func(ctx context.Context, sh *shell, args []string) error
}

// verbs lists the verbs in the order of the help.
func verbs() []verb {
	return []verb{
		{"status", "show readiness, spool, link, counts and policy; -watch repeats it", statusVerb},
		{"explain", "show one decision: reason, terms of the score, both predictions, outcome", explainVerb},
		{"decisions", "list the latest decisions, by class, device, target or policy", decisionsVerb},
		{"task", "ask the node where a task of a given size, complexity and deadline should go", taskVerb},
		{"ui", "serve the service's page to a local browser, also in secure mode", uiVerb},
		{"spool", "inspect, verify, repair or export the spool of a stopped service", spoolVerb},
		{"config", "lint, echo, diff or dry-run a configuration.yaml, or show the live one", configVerb},
		{"version", "print version and commit of this program", versionVerb},
		{"keys", "create a key, and explain how to store it in the secret store", keysVerb},
	}
}

// Main runs the tool and returns the exit code of the process.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), halt.Signals()...)
	defer stop()
	return within(ctx, func() int { return run(ctx, processShell(), os.Args[1:]) })
}

// stopGrace is the time limit of a verb after a signal.
const stopGrace = 2 * time.Second

// within returns the exit code of a verb, or that of failure if the verb does not end with ctx: it may block on a terminal or on opening a pipe.
func within(ctx context.Context, verb func() int) int {
	done := make(chan int, 1)
	go func() { done <- verb() }()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
	}
	select {
	case code := <-done:
		return code
	case <-time.After(stopGrace):
		return exitFailed
	}
}

// Run executes the verb in args with the environment of the process, and returns the exit code.
func Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	sh := processShell()
	sh.in, sh.out, sh.err, sh.terminal = in, out, errs, false
	return run(ctx, sh, args)
}

// run executes the verb in args and returns the exit code.
func run(ctx context.Context, sh *shell, args []string) int {
	if len(args) > 0 && (args[0] == "-version" || args[0] == "--version") {
		args[0] = "version"
	}
	name, err := sh.group(ctx, "", verbs(), args)
	return code(sh, Name+" "+name, err)
}

func names(of []verb) (all []string) {
	for _, v := range of {
		all = append(all, v.name)
	}
	return all
}

func isHelp(arg string) bool {
	return arg == "-h" || arg == "--help" || arg == "-help" || arg == "help"
}

// errFound means that the verb found and already printed mistakes or damage.
var errFound = errors.New("found mistakes or damage")

// errNotReady means that the service answers but is not ready; the verb has printed the reasons.
var errNotReady = errors.New("not ready")

// code prints an error that was not printed yet, and returns its exit code.
func code(sh *shell, name string, err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitFine
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errNotReady):
		return exitNotReady
	case errors.Is(err, errFound):
		return exitFailed
	}
	fmt.Fprintf(sh.err, "%s: %v\n", name, err)
	return exitFailed
}

// manuals holds the help of the verbs, one file per verb.
//
//go:embed help
var manuals embed.FS

// manual writes the help of a verb, or of a group, which has verbs and no flags.
func manual(w io.Writer, name string, verbs []verb, flags func()) {
	read := func(name string) string {
		text, _ := manuals.ReadFile("help/" + strings.ReplaceAll(name, " ", "-") + ".txt")
		return string(text)
	}
	var list strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&list, "  %-10s %s\n", v.name, v.summary)
	}
	text := strings.NewReplacer("{verbs}\n", list.String(), "{service}\n", read("service")).Replace(read(cmp.Or(name, "usage")))
	before, after, hasFlags := strings.Cut(text, "{flags}\n")
	_, _ = io.WriteString(w, before)
	if hasFlags {
		flags()
	}
	_, _ = io.WriteString(w, after)
}

// group runs one verb of a group and returns its name, or prints the help of the group.
func (sh *shell) group(ctx context.Context, name string, verbs []verb, args []string) (verb string, err error) {
	if len(args) == 0 {
		manual(sh.err, name, verbs, nil)
		return "", errUsage
	}
	if isHelp(args[0]) && len(args) == 1 {
		manual(sh.out, name, verbs, nil)
		return "", nil
	}
	if isHelp(args[0]) { // help VERB, as in many tools
		args = append(args[1:], "-h")
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return v.name, v.run(ctx, sh, args[1:])
		}
	}
	return "", sh.misused(name, "unknown verb %q%s", args[0], check.DidYouMean(args[0], names(verbs)))
}

// flagSet is a verb's flags with its help.
type flagSet struct {
	*flag.FlagSet
	sh   *shell
	name string
}

// flags creates the flag set of a verb.
func (sh *shell) flags(name string) *flagSet {
	fs := &flagSet{flag.NewFlagSet(name, flag.ContinueOnError), sh, name}
	fs.SetOutput(io.Discard) // parse reports the error
	return fs
}

// parse accepts flags before, between and after the arguments, and returns the arguments. -h prints the help to the standard output, for a pager; a
// mistake prints only its own line.
func (fs *flagSet) parse(args []string) (rest []string, err error) {
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(fs.sh.out)
			manual(fs.sh.out, fs.name, nil, fs.PrintDefaults)
			return nil, err
		}
		if err != nil {
			return nil, fs.misused("%v%s", err, fs.suggest(err))
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

// parseOnly parses the flags of a verb that takes no arguments; hint is part of the error.
func (fs *flagSet) parseOnly(args []string, hint string) error {
	rest, err := fs.parse(args)
	if err == nil && len(rest) > 0 {
		err = fs.misused("%q: "+hint, rest[0])
	}
	return err
}

// suggest names the flag that is closest to an undefined one.
func (fs *flagSet) suggest(err error) string {
	unknown, is := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !is {
		return ""
	}
	var known []string
	fs.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	if near := check.Nearest(unknown, known); near != "" {
		return "; did you mean -" + near + "?"
	}
	return ""
}

// errUsage means wrong arguments; the error has been printed.
var errUsage = errors.New("wrong usage")

// misused prints an error in the arguments and points to the help.
func (fs *flagSet) misused(format string, args ...any) error {
	return fs.sh.misused(fs.name, format, args...)
}

func (sh *shell) misused(name, format string, args ...any) error {
	name = strings.TrimSpace(Name + " " + name)
	fmt.Fprintf(sh.err, "%[1]s: %[2]s; see `%[1]s -h`\n", name, fmt.Sprintf(format, args...))
	return errUsage
}

func versionVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.flags("version")
	asJSON := fs.Bool("json", false, "as JSON: version, commit, go")
	if err := fs.parseOnly(args, "version takes no arguments"); err != nil {
		return err
	}
	if *asJSON {
		return writeJSON(sh.out, version.Get())
	}
	_, err := fmt.Fprintln(sh.out, version.Line(Name))
	return err
}

// processShell returns the shell of the real process.
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

// open opens a file for reading; "-" is the standard input.
func (sh *shell) open(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(sh.in), nil
	}
	return os.Open(path) // #nosec G304 G703 -- the user's own file
}

// writeJSON writes a value for other programs: indented and without HTML escapes.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}
