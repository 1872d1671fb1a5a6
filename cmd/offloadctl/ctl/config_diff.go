package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"

	"app-offload/functions/config"
	"app-offload/functions/task"
)

var diffManual = manual{
	name: "config diff", arguments: "FILE [flags]",
	purpose: `
  Lists the keys whose value in effect is not the default, with where the value comes from. The keys of a class of your own
  are held against those of the class default. Mistakes go to the standard error.
`,
	examples: `
  offloadctl config diff res/configuration.yaml
  OFFLOAD_NODE=plant-7 offloadctl config diff res/configuration.yaml
  offloadctl config diff -json res/configuration.yaml | jq -r '.[].key'
`,
	files:       oneFile,
	environment: fileEnvironment,
	exits: `
  0 listed, whether there are differences or not; 1 it has mistakes, or could not be read; 2 wrong usage
`,
}

// difference is one key that is not as by default.
type difference struct {
	Key     string `json:"key"`
	Default any    `json:"default"`
	Value   any    `json:"value"`
	Source  string `json:"source"`
}

func diffVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading(diffManual, "as JSON")
	e, err := fs.load(args)
	if err != nil {
		return err
	}
	if err := showDiff(e.diff(), sh.out, *fs.asJSON); err != nil {
		return err
	}
	return e.complain(sh.err)
}

// diff compares with the defaults.
func (e *effective) diff() []difference {
	defaults, c := normal(config.Default()), normal(e.cfg)
	for name := range c.Writable.Classes {
		if _, ok := defaults.Writable.Classes[name]; !ok {
			defaults.Writable.Classes[name] = task.DefaultClassConfig()
		}
	}
	usual := map[string]any{}
	_ = config.Walk(&defaults, func(k config.Key) error {
		usual[strings.Join(k.Path, ".")] = k.Value.Interface()
		return nil
	})
	found := []difference{}
	_ = config.Walk(&c, func(k config.Key) error {
		key, value := strings.Join(k.Path, "."), k.Value.Interface()
		if value != usual[key] {
			found = append(found, difference{key, usual[key], value, e.sourceOf(key)})
		}
		return nil
	})
	return found
}

func showDiff(found []difference, out io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(out, found)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "everything is as by default")
		return err
	}
	t := newTable(out, "KEY", "DEFAULT", "VALUE", "FROM")
	for _, d := range found {
		t.row(d.Key, literal(d.Default), literal(d.Value), d.Source)
	}
	return t.end()
}
