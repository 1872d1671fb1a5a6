// Package ctl is the operator's tool on the gateway: it asks a running app-offload how it is and why it decided as it did,
// shows its page, looks into the spool of a stopped one, and checks a configuration before the service sees it. One file a verb.
package ctl

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/version"
)

// Name is what the program has to be called by to be the tool.
const Name = "offloadctl"

// The exit codes, the same for every verb.
const (
	exitFine     = 0
	exitFailed   = 1 // it did not work, or what was looked at has mistakes or damage
	exitUsage    = 2
	exitNotReady = 3 // status: the service answers, but takes no events now
)

// shell is what a verb has of the process around it, so that tests can hold all of it.
type shell struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool) // the environment
	environ  func() []string
	now      func() time.Time
	random   io.Reader // of keys
	terminal bool      // out is one
}

// verb is one thing the tool can do.
type verb struct {
	name, summary string
	run           func(ctx context.Context, sh *shell, args []string) error
}

// verbs lists them all, in the order of the help.
func verbs() []verb {
	return []verb{
		{"status", "is it well: ready, spool, link, counts, policy; -watch to keep looking", statusVerb},
		{"explain", "one decision: the reason, the score's terms, both predicted ways, what came of it", explainVerb},
		{"decisions", "the latest decisions, by class, device, target or policy", decisionsVerb},
		{"task", "ask the node where a task of that size, complexity and deadline should go", taskVerb},
		{"ui", "open the service's page for a browser here, also in secure mode", uiVerb},
		{"spool", "inspect, verify, repair or export the spool of a stopped service", spoolVerb},
		{"config", "lint, echo, diff or dry-run a configuration.yaml, or show the live one", configVerb},
		{"version", "print version and commit of this program", versionVerb},
		{"keys", "make a new key, and say how to put it into the secret store", keysVerb},
	}
}

// Main is the whole life of the process when it is the tool; it gives the exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return run(ctx, processShell(), os.Args[1:])
}

// Run does what the arguments ask for, with the environment of the process, and gives the exit code.
func Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	sh := processShell()
	sh.in, sh.out, sh.err, sh.terminal = in, out, errs, false
	return run(ctx, sh, args)
}

// run does what the arguments ask for and gives the exit code.
func run(ctx context.Context, sh *shell, args []string) int {
	if len(args) == 0 {
		usage(sh.err)
		return exitUsage
	}
	if isHelp(args[0]) && len(args) == 1 {
		usage(sh.out)
		return exitFine
	}
	if args[0] == "-version" || args[0] == "--version" {
		args[0] = "version"
	}
	if isHelp(args[0]) { // help VERB, as many tools have it
		args = append(args[1:], "-h")
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			return code(sh, Name+" "+v.name, v.run(ctx, sh, args[1:]))
		}
	}
	fmt.Fprintf(sh.err, "%s: there is no verb %q%s; see `%s -h`\n", Name, args[0], check.DidYouMean(args[0], names(verbs())), Name)
	return exitUsage
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

// errFound says that what was looked at is not as it should be; the verb has told about it already.
var errFound = errors.New("found mistakes or damage")

// errNotReady says that the service answers, but takes no events now; the verb has told why.
var errNotReady = errors.New("not ready")

// code prints an error that is not yet printed, and turns it into an exit code.
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

// manual is the help of a verb: what it is for, how it is called, what it reads and writes, and how it ends. Texts are
// indented by two spaces and may begin and end with empty lines.
type manual struct {
	name, arguments string
	purpose         string
	examples        string
	verbs           []verb // of a group, which has no flags
	files           string
	environment     string // omitted if empty
	exits           string
}

// write prints it; flags prints those there are, and is nil in a group.
func (m manual) write(w io.Writer, flags func()) {
	fmt.Fprintf(w, "Usage: %s %s %s\n", Name, m.name, m.arguments)
	section := func(title, text string) {
		if text = strings.Trim(text, "\n"); text != "" {
			fmt.Fprintf(w, "\n%s:\n%s\n", title, text)
		}
	}
	section("Purpose", m.purpose)
	section("Examples", m.examples)
	section("Verbs", listing(m.verbs))
	if flags != nil {
		fmt.Fprint(w, "\nFlags:\n")
		flags()
	}
	section("Files", m.files)
	section("Environment", m.environment)
	section("Exit codes", m.exits)
}

func listing(list []verb) string {
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintf(&b, "  %-10s %s\n", v.name, v.summary)
	}
	return b.String()
}

// What many verbs have in common.
const (
	noFiles  = "  none"
	oneFile  = "  FILE    a configuration.yaml as EdgeX reads it, or - for the standard input; it is read only"
	apiExits = "  0 the service answered; 1 no answer, or it refused, with the reason; 2 wrong usage"

	fileEnvironment = "  OFFLOAD_…       overrides a key of FILE by its path, such as OFFLOAD_SPOOL_QUOTAMIB, as it does for the service"
	apiEnvironment  = `
  SERVICE_HOST    where the service listens, unless -url says so; EdgeX's compose files give it to the service, so that the
  SERVICE_PORT    tool finds it inside of the same container. Default localhost and 59740
  OFFLOAD_TOKEN   the JWT that the service wants in secure mode, unless -token-file names a file
  SSL_CERT_FILE   the CA of an https address, where the system does not know it
`
)

// group runs one verb of a group, or shows what there is.
func (sh *shell) group(ctx context.Context, man manual, args []string) error {
	if len(args) == 0 {
		man.write(sh.err, nil)
		return errUsage
	}
	if isHelp(args[0]) && len(args) == 1 {
		man.write(sh.out, nil)
		return nil
	}
	if isHelp(args[0]) {
		args = append(args[1:], "-h")
	}
	for _, v := range man.verbs {
		if v.name == args[0] {
			return v.run(ctx, sh, args[1:])
		}
	}
	return sh.misused(man.name, "there is no verb %q%s", args[0], check.DidYouMean(args[0], names(man.verbs)))
}

// usage is the help of the tool as a whole.
func usage(w io.Writer) {
	fmt.Fprintf(w, `offloadctl looks after app-offload on this gateway.

Usage: offloadctl VERB [flags]

Verbs:
%s
Examples:
  offloadctl status                                      is it well, and what should somebody do something about
  offloadctl explain latest                              why the last task went where it went
  offloadctl ui -token-file jwt                          the page in a browser, in secure mode
  offloadctl config lint res/configuration.yaml          every mistake, before the service sees it
  offloadctl help spool verify                           everything about a verb, as does: offloadctl spool verify -h

Environment:
%s

Exit codes:
  0 fine; 1 failed, or what was looked at has mistakes or damage; 2 wrong usage; 3 (status) the service is not ready
`, listing(verbs()), strings.Trim(apiEnvironment, "\n"))
}

// flagSet are a verb's flags, with its manual.
type flagSet struct {
	*flag.FlagSet
	sh  *shell
	man manual
}

// flags begins a verb's flags.
func (sh *shell) flags(man manual) *flagSet {
	fs := &flagSet{flag.NewFlagSet(man.name, flag.ContinueOnError), sh, man}
	fs.SetOutput(io.Discard) // parse reports the error
	return fs
}

// parse reads flags that may stand before, between and after the arguments, which it returns. Who asks for help gets it on
// the standard output, to page through; who makes a mistake is told that one alone.
func (fs *flagSet) parse(args []string) (rest []string, err error) {
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(fs.sh.out)
			fs.man.write(fs.sh.out, fs.PrintDefaults)
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

// suggest names the flag that somebody most likely meant who wrote one that there is not.
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

// errUsage marks arguments that make no sense; the user was told already.
var errUsage = errors.New("wrong usage")

// misused describes what is wrong with the arguments, and names the help.
func (fs *flagSet) misused(format string, args ...any) error {
	return fs.sh.misused(fs.man.name, format, args...)
}

func (sh *shell) misused(name, format string, args ...any) error {
	fmt.Fprintf(sh.err, "%[1]s %[2]s: %[3]s; see `%[1]s %[2]s -h`\n", Name, name, fmt.Sprintf(format, args...))
	return errUsage
}

var versionManual = manual{
	name: "version", arguments: "[flags]",
	purpose:  "  Prints version and commit of this program. Those of a running service are in `offloadctl status`.\n",
	examples: "  offloadctl version\n  offloadctl version -json | jq -r .commit\n",
	files:    noFiles,
	exits:    "  0 always; 2 wrong usage\n",
}

func versionVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.flags(versionManual)
	asJSON := fs.Bool("json", false, "as JSON: version, commit, go")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: version takes no arguments", rest[0])
	}
	if *asJSON {
		return writeJSON(sh.out, version.Get())
	}
	_, err = fmt.Fprintln(sh.out, version.Line(Name))
	return err
}

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
