package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"app-offload/cmd/offload-lab/internal/nn"
	"app-offload/functions/models"
)

const modelTrainExamples = `  offload-lab model train -out res/models -seed 1               all models that ship, from seeded data
  offload-lab model train -out DIR -only bearing -variant edge  one of them

Purpose:
  Draws pictures of parts and windows of vibration as the feed does, trains the networks on them, quantises the edge variants to int8, and
  writes each with its manifest into a folder of models. Equal seeds give equal files on one kind of processor. The accuracy is judged by
  offload-lab bench hard.
`

// trainModels is model train.
func trainModels(ctx context.Context, args []string) error {
	fs := flags("model train", modelTrainExamples)
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
