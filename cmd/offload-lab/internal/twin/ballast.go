package twin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"app-offload/functions/engine/onnx"
	"app-offload/functions/models"
)

// Any machine can simulate a slow gateway: its model is the cloud's network, with unchanged answers, plus layers that only take time. So the runs are
// real ones in the pool for models.

// slowGateway writes both variants of a model: the cloud's unchanged, and the gateway's with a run time of run.
func slowGateway(from, name string, run time.Duration, edge, cloud string) error {
	manifest, file, err := cloudVariant(from, name)
	if err != nil {
		return err
	}
	if err := writeVersion(cloud, manifest, file); err != nil {
		return err
	}
	layers, heavy := 4, []byte(nil)
	for range 3 { // the time grows with the layers, beyond the network's own
		if heavy, err = ballast(file, manifest.Inputs[0].Shape, layers); err != nil {
			return err
		}
		took, err := timed(heavy)
		if err != nil {
			return err
		}
		layers = max(int(math.Round(float64(layers)*run.Seconds()/took.Seconds())), 1)
	}
	slow := *manifest
	slow.Variant, slow.Classes, slow.Memory = models.Edge, nil, 1<<30
	return writeVersion(edge, &slow, heavy)
}

func cloudVariant(from, name string) (*models.Manifest, []byte, error) {
	paths, err := filepath.Glob(filepath.Join(from, "*", models.ManifestFile))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		m, err := models.ParseManifest(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if m.Name == name && m.Variant == models.Cloud && m.Engine == models.ONNX && len(m.Inputs) == 1 {
			folder, err := os.OpenRoot(filepath.Dir(path))
			if err != nil {
				return nil, nil, err
			}
			file, err := folder.ReadFile(m.File)
			return m, file, errors.Join(err, folder.Close())
		}
	}
	return nil, nil, fmt.Errorf("%s has no cloud variant of model %s in ONNX", from, name)
}

func writeVersion(dir string, m *models.Manifest, file []byte) error {
	digest := sha256.Sum256(file)
	m.SHA256, m.Size = hex.EncodeToString(digest[:]), int64(len(file))
	b, err := json.Marshal(m)
	folder := filepath.Join(dir, m.Folder())
	if err == nil {
		err = os.MkdirAll(folder, 0o750)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, models.ManifestFile), b, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, m.File), file, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing a model: %w", err)
	}
	return nil
}

// timed is the shortest of several runs on zeros.
func timed(file []byte) (time.Duration, error) {
	p, err := onnx.Load(file, onnx.Limits{})
	if err != nil {
		return 0, err
	}
	s, err := p.NewSession()
	if err != nil {
		return 0, err
	}
	least := time.Hour
	for range 8 {
		start := time.Now()
		if err := s.Run(); err != nil {
			return 0, err
		}
		least = min(least, time.Since(start))
	}
	return max(least, time.Microsecond), nil
}

// ballast adds convolutions of the input to a network, with unused results.
func ballast(file []byte, shape []int, layers int) ([]byte, error) {
	if len(shape) != 4 || shape[1] != 1 {
		return nil, fmt.Errorf("the network's input has the shape %v, expected a grey picture", shape)
	}
	const channels = 16
	w := &onnx.Writer{}
	x, from := w.Input("input", shape...), 1
	for i := range layers {
		weights := make([]float32, channels*from*9)
		for k := range weights {
			weights[k] = 0.01
		}
		name := fmt.Sprintf("ballast%d", i)
		x = w.Node("Conv", []string{x, w.Floats(name+".w", weights, channels, from, 3, 3)}, name, onnx.Attribute{Name: "pads", Ints: []int64{1, 1, 1, 1}})
		from = channels
	}
	w.Output(x, shape[0], channels, shape[2], shape[3])
	beside, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	var more []byte
	err = eachField(beside, func(num protowire.Number, _, graph []byte) error {
		if num != modelGraph {
			return nil
		}
		return eachField(graph, func(num protowire.Number, raw, _ []byte) error {
			if num == graphNode || num == graphConstant {
				more = append(more, raw...)
			}
			return nil
		})
	})
	var heavy []byte
	err = errors.Join(err, eachField(file, func(num protowire.Number, raw, body []byte) error {
		if num == modelGraph {
			raw = protowire.AppendBytes(protowire.AppendTag(nil, modelGraph, protowire.BytesType), append(slices.Clone(body), more...))
		}
		heavy = append(heavy, raw...)
		return nil
	}))
	return heavy, err
}

// Fields of ONNX's messages.
const (
	modelGraph    protowire.Number = 7
	graphNode     protowire.Number = 1
	graphConstant protowire.Number = 5
)

// eachField visits the fields of a message: raw with their tags, and their content if that is bytes.
func eachField(b []byte, visit func(num protowire.Number, raw, body []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		m := protowire.ConsumeFieldValue(num, kind, b[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		var body []byte
		if kind == protowire.BytesType {
			body, _ = protowire.ConsumeBytes(b[n:])
		}
		if err := visit(num, b[:n+m], body); err != nil {
			return err
		}
		b = b[n+m:]
	}
	return nil
}
