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

// Config sets the models of this node and the pool that runs them. A change needs a restart.
type Config struct {
	// Directory is the folder of models, with one folder for each version of a model (functions/models/FORMAT.md). "" turns models off: tasks of
	// classes with a model go to the cloud.
	Directory string
	// CacheMiB is the memory for loaded models and their runs, 1 to 65536 MiB. The least recently used model is evicted for another one.
	CacheMiB int `within:"1 65536"`
	// MaxModels is the maximum number of models read from the folder. The status names the others.
	MaxModels int `within:"1 1000"`
	// MaxMiB is the maximum size of a model file.
	MaxMiB int `within:"1 2000"`
	// Preload lists models to load at the start, separated by commas, in addition to the models of classes.
	Preload string
	// Pin lists models to load at the start and to keep in memory, separated by commas.
	Pin string
	// Keys lists public keys in minisign's format, separated by commas. A model is used only if one of them signed its manifest. "" accepts unsigned
	// models, but no models over MQTT.
	Keys string
	// Delivery accepts models that the cloud offers under offload/v1/{node}/model. It needs Keys.
	Delivery bool
	// Canary sets the trial of a new version of a model, whether it comes from the folder or over MQTT.
	Canary CanaryConfig
	// Pool bounds the runs.
	Pool local.PoolConfig
	// Runtime configures ONNX Runtime. It needs a build with ONNX Runtime, such as the full image.
	Runtime onnxruntime.Config
}

// DefaultConfig returns a configuration without models.
func DefaultConfig() Config {
	d := models.DefaultConfig()
	return Config{CacheMiB: d.MemoryMiB, MaxModels: d.MaxModels, MaxMiB: d.MaxMiB, Pool: local.DefaultPoolConfig(), Runtime: d.Runtime, Canary: DefaultCanaryConfig()}
}

// Validate reports all problems together.
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
		p.Addf("Delivery", c.Delivery, "needs Keys: without them, any client that may publish at the broker could send a model")
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

// store returns the configuration of the store.
func (c Config) store(preload []string) models.Config {
	return models.Config{
		Dir: c.Directory, Variant: models.Edge, MaxModels: c.MaxModels, MaxMiB: c.MaxMiB, MemoryMiB: c.CacheMiB, Sessions: c.Pool.Sized(),
		Preload: append(list(c.Preload), preload...), Pin: list(c.Pin), Keys: list(c.Keys), Canary: c.Canary.Tasks > 0,
		Runtime: c.Runtime,
	}
}

// list splits a comma-separated list of names.
func list(text string) []string {
	words := strings.Split(text, ",")
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// CheckModel reports problems in the keys Model and Hard of a class.
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
