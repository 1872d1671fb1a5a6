package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"app-offload/functions/check"
)

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
