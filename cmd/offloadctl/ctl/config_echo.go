package ctl

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"app-offload/functions/config"
	"app-offload/functions/task"
)

var echoManual = manual{
	name: "config echo", arguments: "FILE [flags]",
	purpose: `
  Prints the configuration in effect: the defaults, the file over them, the environment over both. The output is itself a
  configuration that can be read again. Secrets are not part of it; they are in the secret store. Mistakes go to the standard
  error.
`,
	examples: `
  offloadctl config echo res/configuration.yaml
  diff <(offloadctl config echo a.yaml) <(offloadctl config echo b.yaml)
  offloadctl config echo -json res/configuration.yaml | jq .Offload.Writable.Policy
`,
	files:       oneFile,
	environment: fileEnvironment,
	exits: `
  0 printed; 1 printed, but it has mistakes, or it could not be read; 2 wrong usage
`,
}

func echoVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading(echoManual, "as JSON")
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

// put adds a key below the sections of its path, with a remark where it came from the environment.
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

// child is the section of that name below n; keys come in order, so it is the last one or a new one.
func child(n *yaml.Node, name string) *yaml.Node {
	if last := len(n.Content); last >= 2 && n.Content[last-2].Value == name {
		return n.Content[last-1]
	}
	section := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, section)
	return section
}

// normal writes out what the keys that a class leaves out stand for, and hides passwords in addresses.
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
