package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"app-offload/functions/check"
	"app-offload/functions/config"
	"app-offload/functions/task"
)

// problem is one mistake in a configuration.
type problem struct {
	Source  string `json:"source"` // file and line, or environment variable
	Key     string `json:"key"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem"`
	Example string `json:"example,omitempty"`
}

func (p problem) String() string {
	text := p.Source + ": " + p.Key
	if p.Value != "" {
		text += " = " + p.Value
	}
	text += ": " + p.Problem
	if p.Example != "" {
		text += "; for example " + p.Example
	}
	return clean(text)
}

// line returns the problem's line in the file; problems elsewhere sort last.
func (p problem) line() int {
	n, err := strconv.Atoi(p.Source[strings.LastIndexByte(p.Source, ':')+1:])
	if err != nil {
		return math.MaxInt
	}
	return n
}

// effective is a configuration as the service would load it, with the source of each value and the problems found.
type effective struct {
	file     string
	cfg      config.Config
	source   map[string]string // by key: file and line, or variable
	lines    *yaml.Node
	problems []problem
	remarks  []string
}

// readConfig reads a configuration.yaml over the defaults, as EdgeX does: an omitted key keeps its default, except in an entry of a map, where it
// becomes 0 or "". Unlike EdgeX it collects all mistakes. It returns an error only if the file is not YAML.
func readConfig(file string, raw []byte) (*effective, error) {
	e := &effective{file: file, cfg: config.Default(), source: map[string]string{}, lines: &yaml.Node{}}
	var whole map[string]any
	d := yaml.NewDecoder(bytes.NewReader(raw))
	err := d.Decode(&whole)
	if err == nil {
		err = yaml.Unmarshal(raw, e.lines)
	}
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s is not YAML that EdgeX can read: %w", file, err)
	}
	if err == nil && d.Decode(new(any)) != io.EOF {
		e.remarks = append(e.remarks, file+" has more than one document: EdgeX reads only the first")
	}
	if !e.sections(whole) {
		e.remarks = append(e.remarks, file+" has no section "+section+": all defaults apply")
	}
	return e, nil
}

// sections reads the service's section, in any spelling of upper and lower case, and reports whether the file has one. Several spellings are merged
// in order, as EdgeX does it.
func (e *effective) sections(whole map[string]any) (found bool) {
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		if !strings.EqualFold(name, section) {
			continue
		}
		if name != section {
			e.remarks = append(e.remarks, fmt.Sprintf("%s: section %s is read as %s; spell it so, or Consul and overrides from the environment will miss it",
				e.where([]string{name}), name, section))
		}
		e.fill([]string{section}, reflect.ValueOf(&e.cfg).Elem(), whole[name])
		found = true
	}
	return found
}

// fill reads the keys of one section.
func (e *effective) fill(path []string, v reflect.Value, in any) {
	values, ok := in.(map[string]any)
	if in == nil {
		return
	}
	if _, mixed := in.(map[any]any); mixed {
		e.wrong(path, in, "has a name that is not a string; quote it")
		return
	}
	if !ok {
		e.wrong(path, in, "is a section; indent its keys below it")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		field, ok := e.field(path, v.Type(), name)
		if !ok {
			continue
		}
		e.value(append(slices.Clip(path), field.Name), v.FieldByIndex(field.Index), values[name])
	}
}

// field finds the key of that name. EdgeX ignores upper and lower case, and it ignores unknown keys: most typing mistakes stay unnoticed.
func (e *effective) field(path []string, typ reflect.Type, name string) (reflect.StructField, bool) {
	var names []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		if strings.EqualFold(f.Name, name) {
			if f.Name != name {
				e.remarks = append(e.remarks, fmt.Sprintf("%s: %s.%s is read as %s; spell it so, or overrides from the environment may miss it",
					e.where(append(slices.Clip(path), name)), strings.Join(path, "."), name, f.Name))
			}
			return f, true
		}
		names = append(names, f.Name)
	}
	p := problem{Source: e.where(append(slices.Clip(path), name)), Key: strings.Join(path, ".") + "." + name, Problem: "unknown key, ignored by the service"}
	if near := check.Nearest(name, names); near != "" {
		p.Problem += "; did you mean " + near + "?"
	} else {
		p.Problem += "; `offloadctl config echo` lists the keys"
	}
	e.problems = append(e.problems, p)
	return reflect.StructField{}, false
}

func (e *effective) value(path []string, v reflect.Value, in any) {
	switch {
	case in == nil && v.Kind() == reflect.Map:
		v.SetZero() // an empty map removes the default entries; any other empty value keeps the default
	case in == nil:
		return
	case v.Kind() == reflect.Struct:
		e.fill(path, v, in)
	case v.Kind() == reflect.Map:
		e.entries(path, v, in)
	default:
		e.source[strings.Join(path, ".")] = e.where(path)
		if expected := assign(v, in); expected != "" {
			e.wrong(path, in, "must be "+expected)
		}
	}
}

// entries reads a map of sections. An entry replaces the default entry of its name as a whole.
func (e *effective) entries(path []string, v reflect.Value, in any) {
	values, ok := in.(map[string]any)
	if _, mixed := in.(map[any]any); mixed {
		e.wrong(path, in, "has a name that is not a string; quote it")
		return
	}
	if !ok {
		e.wrong(path, in, "is a map: write one name per line with its keys below it, not a list, which does not survive Consul")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		entry := reflect.New(v.Type().Elem()).Elem()
		e.fill(append(slices.Clip(path), name), entry, values[name])
		v.SetMapIndex(reflect.ValueOf(name), entry)
	}
}

// assign writes a YAML value into a key, or returns the expected type.
func assign(v reflect.Value, in any) (expected string) {
	switch v.Kind() {
	case reflect.String:
		text, ok := in.(string)
		if !ok {
			return "a string in quotes"
		}
		v.SetString(text)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			return "true or false, without quotes"
		}
		v.SetBool(b)
	case reflect.Float64:
		f, ok := number(in)
		if !ok {
			return "a number, without quotes"
		}
		v.SetFloat(f)
	default:
		n, exact := in.(int)
		f, ok := number(in)
		if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return "a whole number, without quotes"
		}
		if !exact {
			n = int(f) // EdgeX takes 1024.0 for 1024
		}
		v.SetInt(int64(n))
	}
	return ""
}

func number(in any) (float64, bool) {
	switch n := in.(type) {
	case int:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

func (e *effective) wrong(path []string, value any, what string) {
	key := strings.Join(path, ".")
	p := problem{Source: e.where(path), Key: key, Problem: what, Example: example(key)}
	switch value.(type) {
	case nil, map[string]any, map[any]any, []any: // empty, or too long to show
	default:
		p.Value = strconv.Quote(withoutPasswords(fmt.Sprint(value)))
	}
	e.problems = append(e.problems, p)
}

// where returns the file and line of a key.
func (e *effective) where(path []string) string {
	if line := lineOf(e.lines, path); line > 0 {
		return fmt.Sprintf("%s:%d", e.file, line)
	}
	return e.file
}

// lineOf returns the line of a key, 0 if the key is not written out, such as behind an alias.
func lineOf(n *yaml.Node, path []string) int {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	line := 0
	for _, name := range path {
		key, value := entry(n, name)
		if key == nil {
			return 0
		}
		line, n = key.Line, value
	}
	return line
}

// entry finds a key and its value in a mapping.
func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if strings.EqualFold(n.Content[i].Value, name) {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// override applies the environment. It tries each variable alone: one mistake does not hide the next.
func (e *effective) override(environ []string) {
	known := map[string]string{} // key by variable
	_ = config.Walk(&e.cfg, func(k config.Key) error {
		known[k.Env()] = strings.Join(k.Path, ".")
		return nil
	})
	e.remarks = append(e.remarks, config.Strays(&e.cfg, environ)...)
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		key, ok := known[name]
		if !ok {
			continue
		}
		e.source[key] = name
		_, err := config.ApplyEnv(&e.cfg, func(v string) (string, bool) { return value, v == name })
		if err != nil {
			_, why, _ := strings.Cut(err.Error(), ": ")
			e.problems = append(e.problems, problem{
				Source: name, Key: key, Value: strconv.Quote(withoutPasswords(value)), Problem: why, Example: example(key),
			})
		}
	}
}

// validate adds the service's own errors and warnings. It skips sections with an unreadable key: without that key they may mean something else.
func (e *effective) validate() {
	unread := e.problems
	lines := e.cfg.Remarks()
	if err := e.cfg.Validate(); err != nil {
		lines = append(lines, strings.Split(err.Error(), "\n")...)
	}
	for _, line := range lines {
		p := problem{Source: e.file, Problem: line}
		if key, rest, ok := strings.Cut(line, " = "); ok {
			key = strings.TrimSuffix(key, ".")
			if slices.ContainsFunc(unread, func(u problem) bool { return strings.HasPrefix(u.Key, key+".") }) {
				continue
			}
			if value, err := strconv.QuotedPrefix(rest); err == nil {
				p.Key, p.Value, p.Problem, p.Example = key, withoutPasswords(value), strings.TrimPrefix(rest[len(value):], ": "), example(key)
			}
			p.Source = e.sourceOf(key)
		}
		e.problems = append(e.problems, p)
	}
}

// sourceOf returns the source of a key's value, "default" if neither the file nor the environment sets it.
func (e *effective) sourceOf(key string) string {
	if s := e.source[key]; s != "" {
		return s
	}
	if line := lineOf(e.lines, strings.Split(key, ".")); line > 0 {
		return fmt.Sprintf("%s:%d", e.file, line)
	}
	return "default"
}

// example returns the key's default as written in the file; for a key of a class, that of the default class.
func example(key string) string {
	c, found := config.Default(), ""
	if rest, ok := strings.CutPrefix(key, classesKey+"."); ok {
		key = classesKey + "." + task.DefaultClass + path.Ext(rest)
	}
	_ = config.Walk(&c, func(k config.Key) error {
		if strings.Join(k.Path, ".") == key {
			found = k.Path[len(k.Path)-1] + ": " + literal(k.Value.Interface())
		}
		return nil
	})
	if strings.HasSuffix(found, `: ""`) {
		return ""
	}
	return found
}

const classesKey = section + ".Writable.Classes"

// literal formats a value as YAML.
func literal(v any) string {
	if text, ok := v.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(v)
}

var userInfo = regexp.MustCompile(`(://[^/@\s,:]*):[^/\s,]*@`)

// withoutPasswords hides passwords in addresses. They do not belong in a configuration, but mistakes happen.
func withoutPasswords(text string) string { return userInfo.ReplaceAllString(text, "$1:…@") }

// difference is one key whose value is not the default.
type difference struct {
	Key     string `json:"key"`
	Default any    `json:"default"`
	Value   any    `json:"value"`
	Source  string `json:"source"`
}

func diffVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading("config diff", "as JSON")
	e, err := fs.load(args)
	if err != nil {
		return err
	}
	if err := showDiff(e.diff(), sh.out, *fs.asJSON); err != nil {
		return err
	}
	return e.complain(sh.err)
}

// diff compares the configuration with the defaults.
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
		_, err := fmt.Fprintln(out, "all values are defaults")
		return err
	}
	t := newTable(out, "KEY", "DEFAULT", "VALUE", "FROM")
	for _, d := range found {
		t.row(d.Key, literal(d.Default), literal(d.Value), d.Source)
	}
	return t.end()
}
