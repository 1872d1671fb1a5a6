// Package config composes the configuration of all packages, validates it as a whole and reads it from EdgeX's sources. It does not use the SDK.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"app-offload/functions/batch"
	"app-offload/functions/check"
	"app-offload/functions/export"
	"app-offload/functions/fleet"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/intake"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// Section is the name of the custom section in configuration.yaml and in Consul.
const Section = "Offload"

// Config is the section Offload. Writable takes effect while the service runs; all other settings at a start.
type Config struct {
	// Node is the name of this gateway: a level of every topic, and its identity in the cloud. It must be unique among the gateways of one cloud, and
	// never change.
	Node string
	// KeySecret is the secret in the EdgeX secret store with the keys: an entry for each key, its id and the key as hex or base64, and the entry
	// `current` with the id of the key to seal with. Empty is no key: batches then leave unsealed.
	KeySecret string
	// AllowedHosts are further host names, comma-separated and without ports, for requests to the service's own routes, and for sites whose pages may
	// call them. Addresses, localhost, Service.Host, the machine's name and the service's key are always allowed. A request to any other name is
	// rejected, as a foreign web page could otherwise reach a service without a token. * is every name. Secure mode needs none of this.
	AllowedHosts string
	// StopGrace is the time limit of a stop, at most "8s": in-flight work, the last commit and the last batches.
	StopGrace string `within:"1s 8s"`
	// LearnedDirectory is the folder for the learned state of policies and predictions, which outlives a restart. "" is the spool's.
	LearnedDirectory string
	// LearnedInterval is the time between two saves of the learned state, "1s" to "1h"; a crash loses at most that much.
	LearnedInterval string `within:"1s 1h"`
	// DecisionLog is a folder for a log of decisions with their outcomes, for `offload-lab replay` and other offline evaluation: decisions.jsonl and,
	// once that is full, decisions.old.jsonl. "" disables it. A decision takes about 1 KiB and 10 µs.
	DecisionLog string
	// DecisionLogMiB is the maximum size of both files together in MiB, 2–65536; the older half is removed first.
	DecisionLogMiB int `within:"2 65536"`
	// DecisionLogShare is the share of decisions, 0.0001–1, that is logged.
	DecisionLogShare float64 `within:"0.0001 1"`
	// Writable holds the settings that may change while the service runs.
	Writable Writable
	// Host configures the sampling of this machine.
	Host host.Config
	// Intake configures the reception of events.
	Intake intake.Config
	// Local configures the local processing of tasks.
	Local local.Config
	// Models configures the models of classes, and the pool that runs them.
	Models infer.Config
	// Spool configures the durable queue for the cloud.
	Spool spool.Config
	// Seal configures the messages that batches become.
	Seal seal.Config
	// Export configures the sending of messages.
	Export export.Config
}

// Writable holds the settings that may change while the service runs. A change is accepted or rejected as a whole.
type Writable struct {
	// Policy decides where a task is processed.
	Policy policy.Config
	// Score predicts the cost of both targets.
	Score score.Config
	// Batch selects the records that leave next, and their number.
	Batch batch.Config
	// Federate configures learning together with other nodes.
	Federate fleet.Config
	// Classes are the settings for each kind of data, by the class's name. Data that match no class belong to the class `default`, which may be
	// configured too.
	Classes map[string]task.ClassConfig
}

// Default is the configuration of the service without any settings.
func Default() Config {
	return Config{
		Node:      "edge",
		StopGrace: "7s",

		LearnedInterval: "30s", DecisionLogMiB: 64, DecisionLogShare: 1,
		Writable: Writable{
			Policy: policy.DefaultConfig(), Score: score.DefaultConfig(), Batch: batch.DefaultConfig(), Federate: fleet.DefaultConfig(),
			Classes: DefaultClasses(),
		},
		Host: host.DefaultConfig(), Intake: intake.DefaultConfig(), Local: local.DefaultConfig(), Models: infer.DefaultConfig(),
		Spool: spool.DefaultConfig(), Seal: seal.DefaultConfig(), Export: export.DefaultConfig(),
	}
}

// DefaultClasses are examples to start from. They match by profile, so they have no effect where there is no such profile.
func DefaultClasses() map[string]task.ClassConfig {
	vibration := task.DefaultClassConfig()
	vibration.MatchProfile = "*Vibration*"
	vibration.Priority, vibration.Complexity, vibration.Deadline = 6, 40, "2s"
	vibration.CriticalLow, vibration.CriticalHigh = "-4", "4"
	vibration.Operators = "summary window=10s; range low=-6 high=6"

	camera := task.DefaultClassConfig()
	camera.MatchProfile = "*Camera*"
	camera.Priority, camera.Complexity, camera.TTL = 3, 80, "24h"

	return map[string]task.ClassConfig{"default": task.DefaultClassConfig(), "vibration": vibration, "camera": camera}
}

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields(Section, c)
	if !isLevel(c.Node) {
		p.Addf("Node", c.Node, "must be one level of an MQTT topic: 1 to 255 bytes that can be printed, without / + # $ and blanks, such as \"plant-7\"")
	}
	c.checkHosts(p)
	c.checkKeys(p)
	return errors.Join(append([]error{p.Err()}, under(Section,
		c.Host.Validate(), c.Intake.Validate(), c.Local.Validate(), c.Models.Validate(), c.Spool.Validate(), c.Seal.Validate(), c.Export.Validate(),
		c.Writable.Validate(),
	)...)...)
}

// checkKeys rejects settings that use a key where there is none: no batch could be sealed, or no record stored.
func (c Config) checkKeys(p *check.Problems) {
	const needs = "needs a key, but Offload.KeySecret is empty"
	if c.KeySecret != "" {
		return
	}
	if c.Spool.Encrypt {
		p.Addf("Spool.Encrypt", true, needs)
	}
	switch {
	case c.Seal.Cipher == seal.CipherGCM || c.Seal.Cipher == seal.CipherEAX:
		p.Addf("Seal.Cipher", c.Seal.Cipher, needs)
	case c.Seal.Cipher == seal.CipherAuto && c.Seal.KeyID != "" && seal.IsText(c.Seal.KeyID):
		p.Addf("Seal.KeyID", c.Seal.KeyID, needs)
	}
}

func (c Config) checkHosts(p *check.Problems) {
	for _, name := range c.Hosts() {
		if name != "*" && !hostName.MatchString(name) {
			p.Addf("AllowedHosts", c.AllowedHosts, "%q must be the name of a host, without scheme and port, such as gateway-7.plant.example, or * for every name", name)
		}
	}
}

// Validate reports every problem of the part that may change while the service runs.
func (w Writable) Validate() error {
	_, err := task.NewClasses(w.Classes)
	errs := under("Writable", w.Policy.Validate(), w.Score.Validate(), w.Batch.Validate(), w.Federate.Validate(), err)
	for name, class := range w.Classes {
		if !class.Off {
			errs = append(errs, w.validateClass(name, class))
		}
	}
	return errors.Join(errs...)
}

// isLevel reports whether a name can be one level of a topic, an attribute of a message and a file name, for any reader.
func isLevel(name string) bool {
	odd := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("/+#$", r)
	}
	return len(name) <= 255 && seal.IsText(name) && !strings.ContainsFunc(name, odd)
}

// LargestRecord is the size in bytes up to which an event, or a part of it, can be stored and become a message. Larger events are split.
func (c Config) LargestRecord() int { return min(c.Seal.LargestRecord(), c.Spool.LargestRecord()) }

// Remarks returns probable mistakes among valid settings, in the form of the problems of Validate: limits of packages that follow each other. The
// service starts in spite of them, and logs each.
func (c Config) Remarks() []string {
	p := check.In(Section)
	// An invalid limit cannot be compared with others.
	if errors.Join(c.Intake.Validate(), c.Spool.Validate(), c.Seal.Validate(), c.Writable.Batch.Validate()) == nil {
		c.remarkSizes(p)
	}
	if file := c.Writable.Policy.PPOWeights; file != "" && file != policy.DefaultConfig().PPOWeights {
		if err := c.Writable.Policy.Ready("ppo"); err != nil {
			p.Addf("Writable.Policy.PPOWeights", file, "%v", err)
		}
	}
	if err := p.Err(); err != nil {
		return strings.Split(err.Error(), "\n")
	}
	return nil
}

func (c Config) remarkSizes(p *check.Problems) {
	if c.Writable.Batch.MaxKiB > c.Seal.MaxMessageKiB {
		p.Addf("Writable.Batch.MaxKiB", c.Writable.Batch.MaxKiB, "is above Seal.MaxMessageKiB, %d: batches that do not shrink below it are split again", c.Seal.MaxMessageKiB)
	}
	if c.Writable.Batch.MaxKiB > c.Seal.MaxDataMiB<<10 {
		p.Addf("Writable.Batch.MaxKiB", c.Writable.Batch.MaxKiB, "is above Seal.MaxDataMiB, %d MiB, the consumer's limit", c.Seal.MaxDataMiB)
	}
	if c.Seal.MaxDataMiB<<10 < c.Seal.MaxMessageKiB {
		p.Addf("Seal.MaxDataMiB", c.Seal.MaxDataMiB, "is below Seal.MaxMessageKiB, %d KiB: no message becomes that large", c.Seal.MaxMessageKiB)
	}
	if c.Intake.MaxPayloadKiB > c.Intake.MaxMiB<<10 {
		p.Addf("Intake.MaxPayloadKiB", c.Intake.MaxPayloadKiB, "is above Intake.MaxMiB, %d MiB: such an event never finds room", c.Intake.MaxMiB)
	}
	largest := c.LargestRecord()
	for _, name := range slices.Sorted(maps.Keys(c.Writable.Classes)) {
		switch class := c.Writable.Classes[name]; {
		case class.Off || class.NeverLeave:
		case class.ChunkSize < 0 && c.Intake.MaxPayloadKiB<<10 > largest:
			p.Addf("Writable.Classes."+name+".ChunkSize", class.ChunkSize, "never splits, but events of up to Intake.MaxPayloadKiB, %d KiB, are accepted: above %d KiB they fit no message of Seal.MaxMessageKiB, %d, or no record of the spool, and are split by their readings all the same",
				c.Intake.MaxPayloadKiB, largest>>10, c.Seal.MaxMessageKiB)
		case class.ChunkSize > largest>>10:
			p.Addf("Writable.Classes."+name+".ChunkSize", class.ChunkSize, "makes pieces of binaries of that size; above %d KiB they fit no message of Seal.MaxMessageKiB, %d, or no record of the spool, and get half that size", largest>>10, c.Seal.MaxMessageKiB)
		}
	}
}

// validateClass checks the keys of a class that other packages know: its policy, its operators and its model.
func (w Writable) validateClass(name string, c task.ClassConfig) error {
	p := check.In("Writable.Classes." + name)
	if c.Policy != "" {
		if err := policy.Known(c.Policy); err != nil {
			p.Addf("Policy", c.Policy, "%v", err)
		} else if err := w.Policy.Ready(c.Policy); err != nil {
			p.Addf("Policy", c.Policy, "needs Writable.Policy.PPOWeights: %v", err)
		}
	}
	if err := local.CheckOperators(c.Operators); err != nil {
		p.Addf("Operators", c.Operators, "%v", err)
	}
	inModel, inHard := infer.CheckModel(c.Model, c.Hard)
	for _, one := range []struct {
		key, text string
		err       error
	}{{"Model", c.Model, inModel}, {"Hard", c.Hard, inHard}} {
		if one.err != nil {
			p.Addf(one.key, check.Cut(one.text, 64), "%v", one.err)
		}
	}
	return p.Err()
}

// under prefixes each problem with the section's name.
func under(section string, errs ...error) []error {
	var all []error
	for _, err := range errs {
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				all = append(all, fmt.Errorf("%s.%s", section, line))
			}
		}
	}
	slices.SortFunc(all, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return all
}
