package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"app-offload/functions/config"
	"app-offload/functions/task"
)

func configVerbs() []verb {
	return []verb{
		{"lint", "list all mistakes: key, value, bound and an example", lintVerb},
		{"echo", "print the configuration in effect as YAML", echoVerb},
		{"diff", "list the keys that differ from the defaults", diffVerb},
		{"dry-run", "show what the rules would do with recorded events; nothing is sent", dryRunVerb},
		{"live", "print the configuration of the running service as YAML", liveVerb},
	}
}

func configVerb(ctx context.Context, sh *shell, args []string) error {
	_, err := sh.group(ctx, "config", configVerbs(), args)
	return err
}

// fileFlags are the flags of the verbs that read a configuration.
type fileFlags struct {
	*flagSet
	noEnv, asJSON *bool
}

func (sh *shell) reading(name, asJSON string) *fileFlags {
	fs := sh.flags(name)
	return &fileFlags{fs, fs.Bool("no-env", false, "ignore the environment"), fs.Bool("json", false, asJSON)}
}

// load parses the flags and loads the one file argument.
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

// loadFile reads a configuration and, with withEnv, overrides it from the environment.
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

// maxConfig is the maximum size of a configuration file in bytes.
const maxConfig = 4 << 20

// fileArgument describes the one argument of all verbs of config.
const fileArgument = "needs one file, such as res/configuration.yaml, or - for the standard input"

// complain prints every remark and every problem, and returns errFound if there are problems.
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

// section is the name of the service's section in the file.
const section = config.Section

func lintVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading("config lint", "as JSON")
	strict := fs.Bool("strict", false, "treat notes as mistakes, such as a variable that names no key")
	e, err := fs.load(args)
	if err != nil {
		return err
	}
	return e.lint(sh.out, *fs.asJSON, *strict)
}

// lint prints every problem, and returns errFound if there is one, or with strict a note.
func (e *effective) lint(out io.Writer, asJSON, strict bool) error {
	if asJSON {
		report := struct {
			File     string    `json:"file"`
			Problems []problem `json:"problems"`
			Remarks  []string  `json:"remarks"`
		}{e.file, append([]problem{}, e.problems...), append([]string{}, e.remarks...)}
		if err := writeJSON(out, report); err != nil {
			return err
		}
		out = io.Discard
	}
	err := e.complain(out)
	if err == nil && strict && len(e.remarks) > 0 {
		err = errFound
	}
	if err == nil {
		fmt.Fprintf(out, "%s: no mistakes\n", e.file)
	}
	return err
}

// liveVerb prints the configuration in force, and returns errFound if the last change was rejected.
func liveVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("config live", "as JSON")
	if err := fs.parseOnly(args, "config live takes no arguments; it asks the service"); err != nil {
		return err
	}
	c, err := fs.api.client(sh)
	if err != nil {
		return err
	}
	var answer struct {
		Problem string        `json:"problem"`
		Offload config.Config `json:"Offload"`
	}
	if err := c.get(ctx, "/config", &answer); err != nil {
		return err
	}
	e := &effective{cfg: answer.Offload}
	if err := e.echo(sh.out, *fs.asJSON); err != nil {
		return err
	}
	if answer.Problem == "" {
		return nil
	}
	fmt.Fprintf(sh.err, "the last change was rejected: %s\n", clean(oneLine(answer.Problem)))
	return errFound
}

func echoVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading("config echo", "as JSON")
	e, err := fs.load(args)
	if err != nil {
		return err
	}
	if err := e.echo(sh.out, *fs.asJSON); err != nil {
		return err
	}
	return e.complain(sh.err)
}

// echo writes the configuration in effect.
func (e *effective) echo(out io.Writer, asJSON bool) error {
	c := normal(e.cfg)
	if asJSON {
		return writeJSON(out, map[string]config.Config{section: c})
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	err := config.Walk(&c, func(k config.Key) error {
		e.put(root, k)
		return nil
	})
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("writing YAML: %w", err)
	}
	return enc.Close()
}

// put adds a key below the sections of its path, with a comment if its value came from the environment.
func (e *effective) put(n *yaml.Node, k config.Key) {
	for _, name := range k.Path[:len(k.Path)-1] {
		n = child(n, name)
	}
	value := &yaml.Node{}
	value.SetString("")
	if k.Value.Kind() == reflect.String {
		value.Value, value.Style = k.Value.String(), yaml.DoubleQuotedStyle
	} else {
		*value = yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(k.Value.Interface())}
	}
	if s := e.source[strings.Join(k.Path, ".")]; s == k.Env() {
		value.LineComment = "from " + s
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: k.Path[len(k.Path)-1]}, value)
}

// child returns the section of that name below n. Keys come in order: it is the last section or a new one.
func child(n *yaml.Node, name string) *yaml.Node {
	if last := len(n.Content); last >= 2 && n.Content[last-2].Value == name {
		return n.Content[last-1]
	}
	section := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, section)
	return section
}

// normal fills in the defaults of the keys that a class omits, and hides passwords in addresses.
func normal(c config.Config) config.Config {
	defaults := reflect.ValueOf(task.DefaultClassConfig())
	classes := make(map[string]task.ClassConfig, len(c.Writable.Classes))
	for name, class := range c.Writable.Classes {
		v := reflect.ValueOf(&class).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				v.Field(i).Set(defaults.Field(i))
			}
		}
		classes[name] = class
	}
	c.Writable.Classes = classes
	_ = config.Walk(&c, func(k config.Key) error {
		if k.Value.Kind() == reflect.String {
			k.Value.SetString(withoutPasswords(k.Value.String()))
		}
		return nil
	})
	return c
}
