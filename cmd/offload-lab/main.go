// offload-lab is the laboratory: it runs the whole system on one machine, makes its input and measures it.
// One file a verb; verbs are joined by files and pipes.
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
	"syscall"

	"app-offload/functions/check"
	"app-offload/functions/version"
)

// verb is one thing the lab can do.
type verb struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string) error
}

// verbs lists them all, in the order of the help.
func verbs() []verb {
	return []verb{
		{"run", "the whole system on this machine: broker, feed, app-offload, offload-cloud", runVerb},
		{"generate", "the feed's stream as JSON lines", generateVerb},
		{"train", "learn a policy, or a classic problem by which the learner is judged", trainVerb},
		{"simulate", "one policy through simulated episodes, a JSON line a decision", simulateVerb},
		{"compare", "every policy on the same episodes, beside the clairvoyant optimum", compareVerb},
		{"federate", "a new gateway's first tasks with and without what others have learned, and with one hostile among them", federateVerb},
		{"replay", "recorded decisions of a real service through other policies", replayVerb},
		{"report", "what the others wrote as one HTML page with plots", reportVerb},
		{"against", "the same tasks through the running system and through the simulator", againstVerb},
		{"live", "policies against each other in the running system, with local work that computes", liveVerb},
		{"faults", "break the whole system over and over, and check that nothing is lost, doubled or out of order", faultsVerb},
		{"model", "what a model needs and how long a run takes on this machine", modelVerb},
		{"export", "a model or a policy as one file of C or Go, for machines without room for an engine", exportVerb},
		{"bench", "events a second and CPU an event of the whole service, beside its floor", benchVerb},
	}
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
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
		case err != nil:
			fmt.Fprintf(os.Stderr, "offload-lab %s: %v\n", v.name, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(os.Stderr, "offload-lab: there is no verb %q%s\n\n", args[0], check.DidYouMean(args[0], names()))
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

// manuals are what the verbs are for, with examples: a file each, named by its words.
//
//go:embed help
var manuals embed.FS

// flags makes a verb's flag set, whose help shows the manual first; fills are pairs of a place in it and the text that belongs there.
func flags(name string, fills ...string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() {
		manual, _ := manuals.ReadFile("help/" + strings.ReplaceAll(name, " ", "-") + ".txt")
		fmt.Fprintf(fs.Output(), "Usage: offload-lab %s [flags]\n\nExamples:\n%s\nFlags:\n", name, strings.NewReplacer(fills...).Replace(string(manual)))
		fs.PrintDefaults()
	}
	return fs
}

// parse reads a verb's flags, and refuses what is none: an argument that nothing reads is a mistake somebody should know of.
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
