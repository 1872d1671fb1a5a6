package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"app-offload/functions/models"
	"app-offload/functions/task"
)

// storeOptions say what to show of a folder of models.
type storeOptions struct {
	dir, key, ask, input, variant string
	memory                        int // MiB
	json                          bool
}

// showStore lists a folder of models, or lets one of them answer. It changes nothing in the folder.
func showStore(w io.Writer, o storeOptions) (err error) {
	cfg := models.DefaultConfig()
	cfg.Dir, cfg.MemoryMiB, cfg.MaxMiB, cfg.MaxModels = o.dir, o.memory, 2000, 1000
	if o.key != "" {
		if cfg.Keys, err = readKey(o.key); err != nil {
			return err
		}
	}
	look, err := models.LookAt(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	if o.ask != "" {
		return askModel(w, look, o)
	}
	reports := look.Reports()
	if o.json {
		return indented(w, map[string]any{"models": reports, "problems": look.Problems})
	}
	for i := range reports {
		printVersion(w, &reports[i])
	}
	for _, p := range look.Problems {
		_, _ = fmt.Fprintf(w, "not a model: %s\n", p)
	}
	if len(reports) == 0 {
		_, _ = fmt.Fprintf(w, "%s has no models\n", o.dir)
	}
	return nil
}

func printVersion(w io.Writer, r *models.Report) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	place := ""
	if r.InForce {
		place = ", in force"
	}
	line("%s %s (%s, %s%s)", r.Name, r.Version, r.Variant, r.Engine, place)
	if r.Signed != "" {
		line("  signed  %s", r.Signed)
	}
	if r.Problem != "" {
		line("  cannot be loaded: %s", r.Problem)
		return
	}
	resource := r.Resource
	if resource == "" {
		resource = "any resource"
	}
	line("  %s of %s → %s", r.Input, resource, r.Output)
	line("  %.3g million multiply-accumulates, %.4g µs a run, %.1f KiB of memory", float64(r.MACs)/1e6, r.Run, float64(r.Bytes)/1024)
}

// readKey reads a public key: the file that minisign writes, or its last line itself.
func readKey(key string) ([]string, error) {
	if _, err := models.ParseTrust([]string{key}); err == nil {
		return []string{key}, nil
	}
	b, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("-key is neither a public key nor a file with one: %w", err)
	}
	return []string{string(b)}, nil
}

// askModel runs a model on a file: a picture, or numbers as a JSON array.
func askModel(w io.Writer, look *models.Look, o storeOptions) error {
	b, err := os.ReadFile(o.input)
	if err != nil {
		return fmt.Errorf("reading -input: %w", err)
	}
	reading := task.Reading{Type: task.Blob, Encoding: task.Binary, Value: b}
	if text := strings.TrimSpace(string(b)); strings.HasPrefix(text, "[") {
		reading = task.Reading{Type: task.Float64Array, Value: []byte(text)}
	}
	for _, r := range look.Reports() {
		if r.Name == o.ask && r.Variant == o.variant && r.InForce {
			reading.Resource = r.Resource
		}
	}
	answer, err := look.Ask(o.ask, o.variant, &task.Task{EventID: o.input, Readings: []task.Reading{reading}})
	if err != nil {
		return err
	}
	return indented(w, answer)
}

// printManifest writes a manifest of a model's file, for its author to complete.
func printManifest(w io.Writer, name, path string, memory int64) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the model: %w", err)
	}
	m, err := models.Describe(name, file, memory)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return indented(w, m)
}

func indented(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
