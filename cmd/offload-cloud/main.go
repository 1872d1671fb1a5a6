// offload-cloud is the cloud side: it receives and opens the messages of nodes, stores each task once and sends receipts to the nodes. Its verbs
// inspect and repair the store.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/halt"
	"app-offload/functions/version"
)

// streams are the output streams of the process, replaceable in tests.
type streams struct{ out, err io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), halt.Signals()...)
	context.AfterFunc(ctx, stop) // a second signal ends the process
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// verbs are the subcommands.
var verbs = map[string]func(context.Context, []string, streams) error{
	"credits": creditsVerb, "dead": deadVerb, "deliver": deliverVerb, "events": eventsVerb, "federate": federateVerb, "jobs": jobsVerb, "stats": statsVerb,
	"version": versionVerb, "work": workVerb,
}

// run executes the verb in the arguments, or the consumer without a verb.
func run(ctx context.Context, args []string, std streams) int {
	verb := consumeVerb
	name := ""
	if len(args) > 0 && (args[0] == "-version" || args[0] == "--version") {
		args[0] = "version"
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name = args[0]
		verb = verbs[name]
		args = args[1:]
	}
	if verb == nil {
		_, _ = fmt.Fprintf(std.err, "offload-cloud: unknown verb %q, expected one of %s\n", name, strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
		return 2
	}
	err := verb(ctx, args, std)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, syscall.EPIPE):
		return 0 // the reader has closed the pipe
	case errors.Is(err, errUsage):
		return 2 // the flag package has printed the error
	case err != nil:
		_, _ = fmt.Fprintln(std.err, strings.TrimSpace("offload-cloud "+name)+":", err)
		return 1
	}
	return 0
}

// errUsage marks invalid arguments; the error was already printed.
var errUsage = errors.New("wrong usage")

// usages contains the beginning of each verb's help.
//
//go:embed help
var usages embed.FS

// newFlags returns the flag set of a verb.
func newFlags(name string, std streams) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(std.err)
	fs.Usage = func() {
		usage, _ := usages.ReadFile("help/" + name + ".txt")
		_, _ = std.err.Write(usage)
		fs.PrintDefaults()
	}
	return fs
}

// parse parses flags before, between and after the arguments, and returns the arguments.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

// parseFlags is parse for a verb without arguments.
func parseFlags(fs *flag.FlagSet, args []string) error {
	rest, err := parse(fs, args)
	if err == nil && len(rest) > 0 {
		err = notUnderstood(rest[0])
	}
	return err
}

func notUnderstood(word string) error { return fmt.Errorf("unexpected argument %q; see -h", word) }

// onStore runs the action named by the first argument on the store of -store, with the remaining arguments. list takes none.
func onStore(ctx context.Context, fs *flag.FlagSet, args []string, actions map[string]func(*store.Store, []string) error) error {
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		fs.Usage()
		return errUsage
	}
	action := actions[rest[0]]
	switch {
	case action == nil:
		return fmt.Errorf("%q: must be one of %s", rest[0], strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
	case rest[0] == "list" && len(rest) > 1:
		return notUnderstood(rest[1])
	}
	db, err := store.Open(ctx, *dsn, store.Options{MustExist: true})
	if err != nil {
		return err
	}
	return errors.Join(action(db, rest[1:]), db.Close())
}

// parseIDs parses the ids that a list shows.
func parseIDs(args []string, what string) (ids []int64, err error) {
	for _, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not the %s", arg, what)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func versionVerb(_ context.Context, args []string, std streams) error {
	fs := newFlags("version", std)
	asJSON := fs.Bool("json", false, "as a JSON object")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(std.out).Encode(version.Get())
	}
	_, err := fmt.Fprintln(std.out, version.Line("offload-cloud"))
	return err
}
