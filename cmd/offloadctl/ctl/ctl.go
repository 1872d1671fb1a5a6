// Package ctl is the operator's tool on the gateway: it asks a running app-offload how it is and why it decided as it did,
// shows its page, looks into the spool of a stopped one, and checks a configuration before the service sees it. One file a verb.
package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"app-offload/functions/check"
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
