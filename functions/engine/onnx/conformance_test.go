package onnx

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// official contains ONNX's own cases, from Debian's package libonnx-testdata.
const official = "/usr/lib/python3/dist-packages/onnx/backend/test/data"

const passing = "testdata/passing.txt"

// All official cases that passed before still pass. OFFLOAD_ONNX_UPDATE=1 adds new ones to the list.
func TestConformance(t *testing.T) {
	models, err := filepath.Glob(official + "/*/*/model.onnx")
	require.NoError(t, err)
	if len(models) == 0 {
		t.Skip("the package libonnx-testdata is not installed")
	}
	held := readList(t)
	var passed []string
	for _, path := range models {
		name := filepath.Base(filepath.Dir(filepath.Dir(path))) + "/" + strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "test_")
		err := conforms(path)
		switch {
		case err == nil:
			passed = append(passed, name)
			if !held[name] && os.Getenv("OFFLOAD_ONNX_UPDATE") == "" {
				t.Logf("%s passes and is not in %s", name, passing)
			}
		case held[name]:
			t.Errorf("%s passed before: %v", name, err)
		case testing.Verbose():
			t.Logf("%s: %v", name, err)
		}
		delete(held, name)
	}
	for name := range held {
		t.Errorf("%s passed before and is not here", name)
	}
	t.Logf("%d of %d official cases pass", len(passed), len(models))
	fmt.Printf("onnx: %d of %d official cases pass\n", len(passed), len(models))
	if os.Getenv("OFFLOAD_ONNX_UPDATE") != "" {
		sort.Strings(passed)
		require.NoError(t, os.WriteFile(passing, []byte(strings.Join(passed, "\n")+"\n"), 0o600))
	}
}

func readList(t *testing.T) map[string]bool {
	list := map[string]bool{}
	f, err := os.Open(passing)
	if os.IsNotExist(err) {
		return list
	}
	require.NoError(t, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		list[s.Text()] = true
	}
	return list
}

// conforms runs a case and compares its outputs.
func conforms(path string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p, err := Load(file, Limits{})
	if err != nil {
		return err
	}
	sets, _ := filepath.Glob(filepath.Dir(path) + "/test_data_set_*")
	if len(sets) == 0 {
		return fmt.Errorf("no data")
	}
	s, err := p.NewSession()
	if err != nil {
		return err
	}
	for _, set := range sets {
		for range 2 { // the second run must not depend on the first
			if err := p.runCase(s, set); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(set), err)
			}
		}
	}
	return nil
}

func (p *Program) runCase(s engine.Session, set string) error {
	for i, in := range s.Inputs() {
		v, err := readCase(fmt.Sprintf("%s/input_%d.pb", set, i))
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		name := in.Name
		*in = v.Tensor
		in.Name = name
	}
	if err := s.Run(); err != nil {
		return err
	}
	for i, got := range s.Outputs() {
		want, err := readCase(fmt.Sprintf("%s/output_%d.pb", set, i))
		if err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
		if err := equal(&want.Tensor, got); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	return nil
}

func readCase(path string) (*value, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return readTensor(field{kind: 2, b: b, of: path}, 1<<30)
}

// equal compares like ONNX's own runner: floats within 1e-3 and 1e-7, all else exactly.
func equal(want, got *engine.Tensor) error {
	if want.Type != got.Type || fmt.Sprint(want.Shape) != fmt.Sprint(got.Shape) {
		return fmt.Errorf("expected %s, found %s", &want.Spec, &got.Spec)
	}
	for i := range want.Elements() {
		w, g := at(want, i), at(got, i)
		switch {
		case w == g || math.IsNaN(w) && math.IsNaN(g):
		case isFloat(want.Type) && math.Abs(w-g) <= 1e-7+1e-3*math.Abs(w):
		default:
			return fmt.Errorf("element %d: expected %v, found %v", i, w, g)
		}
	}
	return nil
}
