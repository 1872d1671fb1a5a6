package nn

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"app-offload/functions/models"
)

// Model is one of the shipped models with its training.
type Model struct {
	Name, Variant string
	Source        *Source
	Samples       int // training samples
	Input         models.Input
	H, W          int // of the input, one channel
	Layers        []Layer
	Recipe        Recipe
	Auto          bool    // an autoencoder of healthy signals
	Scale         float32 // of an int8 input
}

// Models lists the shipped models. The edge variants are small and int8, the cloud variants larger and float.
func Models() []Model {
	picture := models.Input{Resource: "Frame", Kind: models.Image, Scale: 1. / 64, Offset: 128}
	signal := models.Input{Resource: "Acceleration", Kind: models.Numbers, Standardise: true}
	latest := models.Input{Resource: "Acceleration", Kind: models.Numbers, Window: "last"}
	return []Model{
		{
			Name: "bearing", Variant: models.Edge, Source: Bearings, Samples: 20_000, Input: signal, H: 1, W: bearingWindow, Scale: 6. / 127,
			Layers: []Layer{Conv(8, 1, 16, 1, 4), Conv(16, 1, 8, 1, 2), Conv(24, 1, 8, 1, 2), MaxPool(1, 4), Dense(16, true), Dense(4, false)},
			Recipe: Recipe{Epochs: 10, Batch: 64, Rate: 0.0015, Decay: 0.01, Smooth: 0.02},
		},
		{
			Name: "bearing-anomaly", Variant: models.Edge, Source: Bearings, Samples: 40_000, Input: latest, H: 1, W: 64, Scale: 4. / 127, Auto: true,
			Layers: []Layer{Dense(32, true), Dense(8, false), Dense(32, true), Dense(64, false)},
			Recipe: Recipe{Epochs: 30, Batch: 64, Rate: 0.002},
		},
		{
			Name: "parts", Variant: models.Edge, Source: Parts, Samples: 10_000, Input: picture, H: 48, W: 64, Scale: 1. / 64,
			Layers: []Layer{Conv(8, 3, 3, 2, 2), MaxPool(2, 2), Conv(16, 3, 3, 1, 1), MaxPool(2, 2), Conv(24, 3, 3, 1, 1), MaxPool(2, 2), Dense(24, true), Dense(3, false)},
			Recipe: Recipe{Epochs: 50, Batch: 32, Rate: 0.003, Decay: 0.01, Smooth: 0.02, Mirror: true},
		},
		{
			Name: "bearing", Variant: models.Cloud, Source: Bearings, Samples: 20_000, Input: signal, H: 1, W: bearingWindow,
			Layers: []Layer{Conv(16, 1, 16, 1, 2), Conv(24, 1, 8, 1, 2), Conv(32, 1, 8, 1, 2), Conv(48, 1, 8, 1, 2), MaxPool(1, 4), Dense(64, true), Dense(4, false)},
			Recipe: Recipe{Epochs: 8, Batch: 64, Rate: 0.0015, Decay: 0.02, Smooth: 0.02},
		},
		{
			Name: "parts", Variant: models.Cloud, Source: Parts, Samples: 36_000, Input: picture, H: 72, W: 96,
			Layers: []Layer{Conv(12, 3, 3, 2, 2), MaxPool(2, 2), Conv(24, 3, 3, 1, 1), MaxPool(2, 2), Conv(32, 3, 3, 1, 1), MaxPool(3, 3), Dense(48, true), Dense(3, false)},
			Recipe: Recipe{Epochs: 8, Batch: 32, Rate: 0.003, Decay: 0.01, Smooth: 0.02, Mirror: true},
		},
	}
}

// Seeds of data outside the training.
const (
	calibrationSeed = 1 << 32 // added to the training seed
	calibration     = 1000    // samples
)

// Make trains the model and returns its file and manifest.
func (m *Model) Make(ctx context.Context, seed uint64, version models.Version, progress func(epoch int, loss float64)) ([]byte, *models.Manifest, error) {
	shape, only := []int{1, m.H, m.W, 1}, -1
	if m.Auto {
		only = 0
	}
	set, err := m.Source.Collect(seed, m.Samples, m.Input, shape, only)
	if err != nil {
		return nil, nil, err
	}
	if m.Auto {
		set.Labels = nil
	}
	net := New(m.H, m.W, 1, seed, m.Layers...)
	m.Recipe.Seed = seed
	if err := net.Train(ctx, set, m.Recipe, progress); err != nil {
		return nil, nil, fmt.Errorf("training %s: %w", m.Name, err)
	}
	apart, err := m.Source.Collect(seed+calibrationSeed, calibration, m.Input, shape, only)
	if err != nil {
		return nil, nil, err
	}
	write := net.Float
	if m.Scale > 0 {
		write = func() ([]byte, error) { return net.Int8(set.Inputs[:min(calibration, len(set.Inputs))], m.Scale) }
	}
	file, err := write()
	if err != nil {
		return nil, nil, err
	}
	manifest, err := models.Describe(m.Name, file, 64<<20)
	if err != nil {
		return nil, nil, err
	}
	manifest.Version, manifest.Variant, manifest.Input = version, m.Variant, m.Input
	if m.Auto {
		manifest.Output = models.Output{Kind: models.Reconstruction, Threshold: threshold(net, apart)}
	} else {
		manifest.Labels = m.Source.Labels
		manifest.Output = models.Output{Kind: models.Classes, Activation: "softmax", Temperature: temperature(net, apart)}
	}
	return file, manifest, manifest.Validate()
}

// threshold is the reconstruction error exceeded by one healthy sample of two hundred.
func threshold(net *Net, healthy *Set) float64 {
	p, list := net.newPass(), make([]float64, 0, len(healthy.Inputs))
	slope := make([]float32, net.Outputs())
	for _, x := range healthy.Inputs {
		list = append(list, squares(slope, net.forward(p, x), x))
	}
	slices.Sort(list)
	return list[len(list)*199/200]
}

// temperature is the divisor of the logits that calibrates the confidence: the one with the lowest cross entropy.
func temperature(net *Net, apart *Set) float64 {
	best, least := 1.0, 0.0
	p := net.newPass()
	slope, scaled := make([]float32, net.Outputs()), make([]float32, net.Outputs())
	for t := 0.3; t < 3; t *= 1.03 {
		sum := 0.0
		for i, x := range apart.Inputs {
			for j, v := range net.forward(p, x) {
				scaled[j] = v / float32(t)
			}
			sum += entropy(slope, scaled, apart.Labels[i], 0)
		}
		if least == 0 || sum < least {
			best, least = t, sum
		}
	}
	return best
}

// Write writes a model into a folder of models.
func Write(dir string, file []byte, m *models.Manifest) error {
	folder := filepath.Join(dir, m.Folder())
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("creating the model's folder: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return fmt.Errorf("writing the manifest of %s: %w", m.Name, err)
	}
	for name, content := range map[string][]byte{m.File: file, models.ManifestFile: b.Bytes()} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil { // #nosec G306 -- a model may be world-readable
			return fmt.Errorf("writing a model: %w", err)
		}
	}
	return nil
}
