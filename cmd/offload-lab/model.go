package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"app-offload/functions/engine"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/models"
)

const modelExamples = `  offload-lab model bearing.tflite             inputs, outputs, operators, memory, and the time of a run
  offload-lab model -runs 1000 -json m.onnx    the same for other programs
  offload-lab model -manifest bearing m.onnx   a manifest to complete and to sign
  offload-lab model -key models.pub DIR        the versions in a folder of models, each verified, loaded and run
  offload-lab model -ask parts -input p.jpg DIR   what a model of the folder answers
  offload-lab model train -h                      train the models that ship
`

// modelReport is what the verb prints.
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
	fs := flags("model", modelExamples)
	rt := onnxruntime.DefaultConfig()
	kind := fs.String("engine", "", "that runs the file: tflite, onnx or onnxruntime; default by the file")
	fs.StringVar(&rt.Library, "onnxruntime", rt.Library, "ONNX Runtime's shared library, for a build with the tag onnxruntime; default as the service finds it")
	fs.IntVar(&rt.Threads, "onnxruntime-threads", rt.Threads, "threads of a run with ONNX Runtime, 1 to 64")
	runs := fs.Int("runs", 200, "runs to time, 1 to 1000000")
	maxMiB := fs.Int64("memory", 256, "most memory in MiB that the model may take, 1 to 16384")
	asJSON := fs.Bool("json", false, "print JSON")
	manifest := fs.String("manifest", "", "print a manifest of the file for a model of this name")
	key := fs.String("key", "", "public key of minisign, or its file: verify the signatures in a folder")
	ask := fs.String("ask", "", "let this model of a folder answer -input")
	input := fs.String("input", "", "file with a picture, or with numbers as a JSON array")
	variant := fs.String("variant", models.Edge, "of the model that answers, edge or cloud")
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
	file, err := os.ReadFile(path)
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

// fillInputs draws inputs: the time of a run depends on them a little, so that zeros would flatter.
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
	line("  %.4g µs a run (median of %d), p99 %.4g µs, on one core", m.Median, m.Runs, m.P99)
}
