package infer

import (
	"errors"
	"slices"
	"strings"

	"app-offload/functions/check"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/models/hard"
)

// Config is the models of this node and the pool that runs them. A change needs a restart.
type Config struct {
	// Directory is the folder of models, with a folder for each version of one (functions/models/FORMAT.md). "" is no models: tasks of classes
	// that name one go to the cloud.
	Directory string
	// CacheMiB is the memory for models that are loaded, with the memory of their runs, 1 to 65536 MiB. The least recently used one leaves it for another.
	CacheMiB int `within:"1 65536"`
	// MaxModels is how many models are read from the folder; further ones are named in the status.
	MaxModels int `within:"1 1000"`
	// MaxMiB is the size of the largest model file.
	MaxMiB int `within:"1 2000"`
	// Preload lists models to load at the start, separated by commas, beside those that classes name.
	Preload string
	// Pin lists models that are loaded at the start and stay in memory, separated by commas.
	Pin string
	// Keys are public keys in minisign's format, separated by commas: a model is used only if its manifest is signed by one of them. "" wants no
	// signatures, and then no model is taken over MQTT.
	Keys string
	// Delivery takes models that the cloud offers under offload/v1/{node}/model. It needs Keys.
	Delivery bool
	// Canary says how a new version of a model is tried first, from the folder or over MQTT.
	Canary CanaryConfig
	// Pool bounds the runs.
	Pool local.PoolConfig
	// Runtime is for models that ONNX Runtime computes. It needs a build with it, as the full image is.
	Runtime onnxruntime.Config
}

// DefaultConfig has no models.
func DefaultConfig() Config {
	d := models.DefaultConfig()
	return Config{CacheMiB: d.MemoryMiB, MaxModels: d.MaxModels, MaxMiB: d.MaxMiB, Pool: local.DefaultPoolConfig(), Runtime: d.Runtime, Canary: DefaultCanaryConfig()}
}

// Validate reports everything that is wrong, all at once.
func (c Config) Validate() error {
	p := check.Fields("Models", c)
	for _, l := range []struct{ key, text string }{{"Preload", c.Preload}, {"Pin", c.Pin}} {
		for _, name := range list(l.text) {
			if !models.ValidName(name) {
				p.Addf(l.key, check.Cut(name, 64), "must be names of models, separated by commas")
			}
		}
	}
	if _, err := models.ParseTrust(list(c.Keys)); err != nil {
		p.Addf("Keys", check.Cut(c.Keys, 64), "%v", err)
	}
	if c.Delivery && len(list(c.Keys)) == 0 {
		p.Addf("Delivery", c.Delivery, "needs Keys: anybody who may publish at the broker could send a model otherwise")
	}
	pool, canary, runtime := check.Fields("Models.Pool", c.Pool), check.Fields("Models.Canary", c.Canary), check.Fields("Models.Runtime", c.Runtime)
	c.Canary.Check(canary)
	for _, name := range list(c.Runtime.Models) {
		if name != "*" && !models.ValidName(name) {
			runtime.Addf("Models", check.Cut(name, 64), "must be names of models, separated by commas, or *")
		}
	}
	p.Add(errors.Join(pool.Err(), canary.Err(), runtime.Err()))
	return p.Err()
}

// store is the configuration of the store.
func (c Config) store(preload []string) models.Config {
	return models.Config{
		Dir: c.Directory, Variant: models.Edge, MaxModels: c.MaxModels, MaxMiB: c.MaxMiB, MemoryMiB: c.CacheMiB, Sessions: c.Pool.Sized(),
		Preload: append(list(c.Preload), preload...), Pin: list(c.Pin), Keys: list(c.Keys), Canary: c.Canary.Tasks > 0,
		Runtime: c.Runtime,
	}
}

// list reads names that commas separate.
func list(text string) []string {
	words := strings.Split(text, ",")
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// CheckModel reports what is wrong with a class's Model and Hard.
func CheckModel(model, rule string) (inModel, inHard error) {
	if model != "" && !models.ValidName(model) {
		inModel = models.ErrName
	}
	_, inHard = hard.ParseRule(rule)
	if inHard == nil && rule != "" && model == "" {
		inHard = errNoModel
	}
	return inModel, inHard
}
