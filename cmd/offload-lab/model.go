package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/nn"
	"app-offload/functions/engine"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// modelReport is the output of the verb.
type modelReport struct {
	File string `json:"file"`
	Size int64  `json:"size"` // bytes
	engine.Info
	Runs   int     `json:"runs"`
	Median float64 `json:"medianMicroseconds"`
	P99    float64 `json:"p99Microseconds"`
}

// modelVerb loads a model and runs it on random inputs.
func modelVerb(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "train" {
		return trainModels(ctx, args[1:])
	}
	fs := flags("model")
	rt := onnxruntime.DefaultConfig()
	kind := fs.String("engine", "", "engine for the file: tflite, onnx or onnxruntime; default by the file")
	fs.StringVar(&rt.Library, "onnxruntime", rt.Library, "ONNX Runtime's shared library, for a build with the tag onnxruntime; default as in the service")
	fs.IntVar(&rt.Threads, "onnxruntime-threads", rt.Threads, "threads per run with ONNX Runtime, 1 to 64")
	runs := fs.Int("runs", 200, "runs to time, 1 to 1000000")
	maxMiB := fs.Int64("memory", 256, "maximum memory of the model in MiB, 1 to 16384")
	asJSON := fs.Bool("json", false, "print JSON")
	manifest := fs.String("manifest", "", "print a manifest of the file for a model of this name")
	key := fs.String("key", "", "public key of minisign, or its file: verify the signatures in a folder")
	ask := fs.String("ask", "", "model of the folder that answers -input")
	input := fs.String("input", "", "file with a picture, or with numbers as a JSON array")
	variant := fs.String("variant", models.Edge, "variant of that model, edge or cloud")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch {
	case fs.NArg() != 1:
		return errors.New("name one model file, or one folder of models; see offload-lab model -h")
	case *runs < 1 || *runs > 1_000_000:
		return fmt.Errorf("-runs = %d must be within 1 and 1000000", *runs)
	case rt.Threads < 1 || rt.Threads > 64:
		return fmt.Errorf("-onnxruntime-threads = %d must be within 1 and 64", rt.Threads)
	case *maxMiB < 1 || *maxMiB > 16384:
		return fmt.Errorf("-memory = %d must be within 1 and 16384", *maxMiB)
	}
	if info, err := os.Stat(fs.Arg(0)); err == nil && info.IsDir() {
		if (*ask == "") != (*input == "") {
			return errors.New("-ask and -input need each other: the model and its input")
		}
		return showStore(os.Stdout, storeOptions{dir: fs.Arg(0), key: *key, ask: *ask, input: *input, variant: *variant, memory: int(*maxMiB), json: *asJSON})
	}
	switch {
	case *key != "" || *ask != "" || *input != "":
		return fmt.Errorf("-key, -ask and -input are for a folder of models, and %s is not a folder", fs.Arg(0))
	case *manifest != "":
		return printManifest(os.Stdout, *manifest, fs.Arg(0), *maxMiB<<20)
	}
	report, err := timeModel(ctx, fs.Arg(0), *kind, rt, *runs, *maxMiB<<20)
	if err != nil {
		return err
	}
	if *asJSON {
		return indented(os.Stdout, report)
	}
	report.print(os.Stdout)
	return nil
}

func timeModel(ctx context.Context, path, kind string, rt onnxruntime.Config, runs int, memory int64) (*modelReport, error) {
	file, err := readFile(path, memory)
	if err != nil {
		return nil, fmt.Errorf("reading the model: %w", err)
	}
	program, err := models.Load(cmp.Or(kind, models.EngineOf(file)), file, memory, rt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer models.Close(program)
	session, err := program.NewSession()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer models.Close(session)
	fillInputs(session.Inputs())
	took := make([]float64, 0, runs)
	for range runs {
		start := time.Now()
		if err := session.Run(); err != nil {
			return nil, fmt.Errorf("%s: running the model: %w", path, err)
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1e3)
		if ctx.Err() != nil {
			break
		}
	}
	slices.Sort(took)
	return &modelReport{File: path, Size: int64(len(file)), Info: program.Info(), Runs: len(took), Median: took[len(took)/2], P99: took[len(took)*99/100]}, nil
}

// fillInputs draws random inputs: the run time depends on them slightly, and zeros would be too fast.
func fillInputs(inputs []*engine.Tensor) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, in := range inputs {
		for i := range in.F32 {
			in.F32[i] = float32(r.NormFloat64())
		}
		for i := range in.I8 {
			in.I8[i] = int8(r.IntN(256) - 128)
		}
		for i := range in.U8 {
			in.U8[i] = uint8(r.IntN(256))
		}
	}
}

func (m *modelReport) print(w io.Writer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("%s: %s, %d bytes, %d parameters", m.File, m.Format, m.Size, m.Parameters)
	for i := range m.Inputs {
		line("  input   %s", &m.Inputs[i])
	}
	for i := range m.Outputs {
		line("  output  %s", &m.Outputs[i])
	}
	line("  operators %s", strings.Join(m.Operators, ", "))
	line("  %.3g million multiply-accumulates, %.1f KiB of memory", float64(m.MACs)/1e6, float64(m.Bytes)/1024)
	line("  %.4g µs per run (median of %d), p99 %.4g µs, on one core", m.Median, m.Runs, m.P99)
}

// storeOptions select the output for a folder of models.
type storeOptions struct {
	dir, key, ask, input, variant string
	memory                        int // MiB
	json                          bool
}

// showStore lists a folder of models, or runs one of them. It changes nothing in the folder.
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
	line("  %.3g million multiply-accumulates, %.4g µs per run, %.1f KiB of memory", float64(r.MACs)/1e6, r.Run, float64(r.Bytes)/1024)
}

// readKey reads a public key: a file written by minisign, or its last line itself.
func readKey(key string) ([]string, error) {
	if _, err := models.ParseTrust([]string{key}); err == nil {
		return []string{key}, nil
	}
	b, err := readFile(key, maxInput)
	if err != nil {
		return nil, fmt.Errorf("-key is neither a public key nor a file with one: %w", err)
	}
	return []string{string(b)}, nil
}

// askModel runs a model on a file: a picture, or numbers as a JSON array.
func askModel(w io.Writer, look *models.Look, o storeOptions) error {
	b, err := readFile(o.input, maxInput)
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

// maxInput is the maximum size in bytes of a model's input file: a few numbers or a picture.
const maxInput = 64 << 20

// printManifest writes a manifest of a model's file for its author to complete.
func printManifest(w io.Writer, name, path string, memory int64) error {
	file, err := readFile(path, memory)
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

// trainModels implements model train.
func trainModels(ctx context.Context, args []string) error {
	fs := flags("model train")
	out := fs.String("out", "", "folder of models to write to")
	seed := fs.Uint64("seed", 1, "seed of weights and data")
	version := fs.String("version", "1.0.0", "version of the models")
	only := fs.String("only", "", "name of the only model to train")
	variant := fs.String("variant", "", "the only variant to train, edge or cloud")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("-out is missing: name the folder of models to write to")
	}
	if err := models.Version(*version).Check(); err != nil {
		return fmt.Errorf("-version: %w", err)
	}
	if err := os.MkdirAll(*out, 0o750); err != nil { // before minutes of training
		return fmt.Errorf("-out: %w", err)
	}
	list := slices.DeleteFunc(nn.Models(), func(m nn.Model) bool {
		return *only != "" && m.Name != *only || *variant != "" && m.Variant != *variant
	})
	if len(list) == 0 {
		return fmt.Errorf("no model has the name %q and the variant %q", *only, *variant)
	}
	for _, m := range list {
		start := time.Now()
		progress := newBar(os.Stderr, m.Recipe.Epochs, 0)
		file, manifest, err := m.Make(ctx, *seed, models.Version(*version), func(epoch int, loss float64) {
			progress.show(epoch, fmt.Sprintf("%s (%s): epoch %d, loss %.4f", m.Name, m.Variant, epoch, loss))
		})
		if err != nil {
			return err
		}
		if err := nn.Write(*out, file, manifest); err != nil {
			return err
		}
		fmt.Printf("%s %s (%s): %d bytes, trained in %.0f s\n", m.Name, manifest.Version, m.Variant, len(file), time.Since(start).Seconds())
	}
	return nil
}
