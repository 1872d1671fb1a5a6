package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"app-offload/cmd/offload-lab/internal/tiny"
	"app-offload/functions/config"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/feedback"
	"app-offload/functions/models"
	"app-offload/functions/policy"
)

// maxExport is the maximum size of an exported file in bytes, beyond that of any program.
const maxExport = 256 << 20

// exportVerb writes a model or a policy as source code.
func exportVerb(_ context.Context, args []string) error {
	fs := flags("export")
	lang := fs.String("lang", "c", "c or go")
	name := fs.String("name", "", "prefix of the C functions, or name of the Go package")
	out := fs.String("out", "", "file to write")
	formula := fs.String("policy", "", "policy to write, instead of a model or network from a file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 1 || *out == "" || *formula == "" && fs.NArg() == 0 {
		return errors.New("name -out and one file with a model or a network, or -policy; see offload-lab export -h")
	}
	if *lang != "c" && *lang != "go" {
		return fmt.Errorf("-lang %q must be c or go", *lang)
	}
	o := tiny.Options{Name: *name, Made: "offload-lab export " + strings.Join(args, " ")}
	if err := o.Validate(); err != nil {
		return fmt.Errorf("-name: %w", err)
	}
	var b []byte
	if fs.NArg() > 0 {
		var err error
		if b, err = readFile(fs.Arg(0), maxExport); err != nil {
			return fmt.Errorf("reading the file to export: %w", err)
		}
	}
	write := exportModel
	switch {
	case *formula != "":
		write = func(w io.Writer, b []byte, lang string, o tiny.Options) (tiny.Size, error) {
			return exportFormula(w, *formula, b, lang, o)
		}
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")):
		write = exportPolicy
	}
	var size tiny.Size
	if err := writeFile(*out, func(w io.Writer) (err error) { size, err = write(w, b, *lang, o); return err }); err != nil {
		return fmt.Errorf("%s: %w", cmp.Or(fs.Arg(0), *formula), err)
	}
	fmt.Printf("%s: flash %d bytes of constants, RAM %d bytes\n", *out, size.Flash, size.RAM)
	return nil
}

// exportFormula writes the named policy with the current configuration. learned is the service's learned state; it may be empty.
func exportFormula(w io.Writer, name string, learned []byte, lang string, o tiny.Options) (tiny.Size, error) {
	c := config.Default()
	if _, err := config.ApplyEnv(&c, os.LookupEnv); err != nil {
		return tiny.Size{}, err
	}
	p, err := policy.New(name, c.Writable.Policy)
	if err != nil {
		return tiny.Size{}, err
	}
	f, err := policy.FormulaOf(p)
	if err == nil && learned != nil {
		if err = feedback.Teach(p, learned); err == nil {
			f, err = policy.FormulaOf(p)
		}
	}
	if err != nil {
		return tiny.Size{}, err
	}
	if lang == "go" {
		return tiny.FormulaGo(w, f, o)
	}
	return tiny.FormulaC(w, f, o)
}

func exportModel(w io.Writer, b []byte, lang string, o tiny.Options) (tiny.Size, error) {
	if models.EngineOf(b) != "tflite" {
		return tiny.Size{}, errors.New("only int8 .tflite models and policies can be exported")
	}
	p, err := tflite.Load(b, tflite.Limits{})
	if err != nil {
		return tiny.Size{}, err
	}
	plan, err := p.Plan()
	if err != nil {
		return tiny.Size{}, err
	}
	if lang == "go" {
		return tiny.Go(w, plan, o)
	}
	return tiny.C(w, plan, o)
}

func exportPolicy(w io.Writer, b []byte, lang string, o tiny.Options) (tiny.Size, error) {
	n, err := policy.ReadNetwork(bytes.NewReader(b))
	if err != nil {
		return tiny.Size{}, err
	}
	if lang == "go" {
		return tiny.PolicyGo(w, n, o)
	}
	return tiny.PolicyC(w, n, o)
}
