package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"app-offload/functions/config"
)

var configManual = manual{
	name: "config", arguments: "VERB [FILE] [flags]",
	purpose: `
  Looks at a configuration: FILE is a configuration.yaml as EdgeX reads it, or - for the standard input. Variables OFFLOAD_… of
  the environment override it, as they do for the service. The verb live asks a running service for its own.
`,
	examples: `
  offloadctl config lint res/configuration.yaml && docker compose restart app-offload
  diff <(offloadctl config echo res/configuration.yaml) <(offloadctl config live)
`,
	verbs: configVerbs(),
	files: `
  FILE    is read only
`,
	environment: fileEnvironment,
	exits: `
  0 fine; 1 it has mistakes, or could not be read; 2 wrong usage
`,
}

func configVerbs() []verb {
	return []verb{
		{"lint", "every mistake at once: key, value, bound and an example", lintVerb},
		{"echo", "the configuration in effect, as YAML", echoVerb},
		{"diff", "the keys that differ from the defaults", diffVerb},
		{"dry-run", "what the rules would do with recorded events; nothing is sent", dryRunVerb},
		{"live", "the configuration that the running service has, as YAML", liveVerb},
	}
}

func configVerb(ctx context.Context, sh *shell, args []string) error {
	return sh.group(ctx, configManual, args)
}

// fileFlags are the flags of the verbs that read a configuration.
type fileFlags struct {
	*flagSet
	noEnv, asJSON *bool
}

func (sh *shell) reading(man manual, asJSON string) *fileFlags {
	fs := sh.flags(man)
	return &fileFlags{fs, fs.Bool("no-env", false, "leave the environment out"), fs.Bool("json", false, asJSON)}
}

// load reads the flags and the one file that they stand beside.
func (f *fileFlags) load(args []string) (*effective, error) {
	rest, err := f.parse(args)
	if err != nil {
		return nil, err
	}
	if len(rest) != 1 {
		return nil, f.misused(fileArgument)
	}
	return f.sh.loadFile(rest[0], !*f.noEnv)
}

// loadFile reads a configuration and overrides it from the environment, unless that is to be left out.
func (sh *shell) loadFile(path string, withEnv bool) (*effective, error) {
	f, err := sh.open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	if path == "-" {
		path = "stdin"
	}
	e, err := readConfig(path, raw)
	if err != nil {
		return nil, err
	}
	var environ []string
	if withEnv {
		environ = sh.environ()
		e.override(environ)
	}
	e.surroundings(raw, environ)
	e.validate()
	slices.SortStableFunc(e.problems, func(a, b problem) int { return cmp.Compare(a.line(), b.line()) })
	return e, nil
}

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 4 << 20

// fileArgument is the one argument that all verbs of config take.
const fileArgument = "needs one file, such as res/configuration.yaml, or - for the standard input"

// complain prints every problem and every remark, and returns errFound if there are problems.
func (e *effective) complain(w io.Writer) error {
	for _, r := range e.remarks {
		fmt.Fprintf(w, "note: %s\n", r)
	}
	for _, p := range e.problems {
		fmt.Fprintln(w, p.String())
	}
	if len(e.problems) > 0 {
		return errFound
	}
	return nil
}

// section is the name under which everything stands.
const section = config.Section
