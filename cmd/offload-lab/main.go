// offload-lab is the laboratory: it runs the whole system on one machine, generates its input and measures it. Each verb has its own file; files and
// pipes connect verbs.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"app-offload/functions/check"
	"app-offload/functions/halt"
	"app-offload/functions/version"
)

// verb is a subcommand.
type verb struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string) error
}

// verbs lists the verbs in the order of the help.
func verbs() []verb {
	return []verb{
		{"run", "run the whole system on this machine: broker, feed, app-offload, offload-cloud", runVerb},
		{"generate", "write the feed's stream as JSON lines", generateVerb},
		{"train", "learn a policy, or a classic problem to check the learner", trainVerb},
		{"simulate", "run one policy through simulated episodes, one JSON line per decision", simulateVerb},
		{"compare", "compare all policies on the same episodes with the clairvoyant optimum", compareVerb},
		{"federate", "measure a new gateway's first tasks alone, with a fleet's statistics, and with a hostile gateway among them", federateVerb},
		{"replay", "estimate other policies on the recorded decisions of a service", replayVerb},
		{"report", "draw the output of other verbs as one HTML page with plots", reportVerb},
		{"against", "compare the running system with the simulator on the same tasks", againstVerb},
		{"live", "compare policies in the running system, with local work that computes", liveVerb},
		{"faults", "break the whole system repeatedly, and check that nothing is lost, duplicated or out of order", faultsVerb},
		{"model", "measure memory and run time of a model on this machine", modelVerb},
		{"export", "write a model or a policy as one C or Go file, for machines without room for an engine", exportVerb},
		{"bench", "measure events per second and CPU per event of the whole service against its floor", benchVerb},
	}
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), halt.Signals()...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends a verb that the first cannot end, such as one that reads from a pipe
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage()
		return 0
	}
	if args[0] == "version" || args[0] == "-version" || args[0] == "--version" {
		fmt.Println(version.Line("offload-lab"))
		return 0
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		err := v.run(ctx, args[1:])
		switch {
		case errors.Is(err, flag.ErrHelp):
			return 0
		case ctx.Err() != nil && errors.Is(err, context.Canceled):
			fmt.Fprintf(os.Stderr, "offload-lab %s: interrupted\n", v.name)
			return 1
		case err != nil:
			fmt.Fprintf(os.Stderr, "offload-lab %s: %v\n", v.name, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(os.Stderr, "offload-lab: unknown verb %q%s\n\n", args[0], check.DidYouMean(args[0], names()))
	usage()
	return 2
}

func names() []string {
	all := []string{"version", "help"}
	for _, v := range verbs() {
		all = append(all, v.name)
	}
	return all
}

func usage() {
	fmt.Fprint(os.Stderr, "Usage: offload-lab VERB [flags]\n\n")
	for _, v := range verbs() {
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", v.name, v.summary)
	}
	fmt.Fprintf(os.Stderr, "  %-10s %s\n", "version", "version and commit of this program")
	fmt.Fprint(os.Stderr, "\n`offload-lab VERB -h` shows a verb's flags and examples.\n")
}

// manuals holds purpose and examples of the verbs, one file per verb.
//
//go:embed help
var manuals embed.FS

// flags creates a verb's flag set, whose help begins with the manual; fills are pairs of a placeholder in the manual and its text.
func flags(name string, fills ...string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {
		manual, _ := manuals.ReadFile("help/" + strings.ReplaceAll(name, " ", "-") + ".txt")
		fmt.Fprintf(fs.Output(), "Usage: offload-lab %s [flags]\n\nExamples:\n%s\nFlags:\n", name, strings.NewReplacer(fills...).Replace(string(manual)))
		fs.PrintDefaults()
	}
	return fs
}

// parse reads a verb's flags and rejects arguments, which no verb of flags reads.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return nil
	}
	var known []string
	fs.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	near := check.Nearest(fs.Arg(0), known)
	if near == "" {
		return fmt.Errorf("unknown argument %q: this verb takes flags only", fs.Arg(0))
	}
	return fmt.Errorf("unknown argument %q: this verb takes flags only; did you mean -%s?", fs.Arg(0), near)
}
