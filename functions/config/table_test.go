package config

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// Each remark begins where the limits of two packages meet, and names the key.
func TestRemarksBeginAtTheLimit(t *testing.T) {
	big := func(size int, change func(*task.ClassConfig)) func(*Config) {
		return func(c *Config) {
			class := task.DefaultClassConfig()
			class.ChunkSize = size
			if change != nil {
				change(&class)
			}
			c.Writable.Classes["big"] = class
			c.Intake.MaxPayloadKiB = 100
		}
	}
	limits := Default()
	record := limits.LargestRecord() >> 10
	require.Equal(t, min(limits.Seal.LargestRecord(), limits.Spool.LargestRecord()), limits.LargestRecord())
	for name, row := range map[string]struct {
		change func(*Config)
		want   string // the key of the only remark, "" for none
	}{
		"batch and message":        {func(c *Config) { c.Writable.Batch.MaxKiB = c.Seal.MaxMessageKiB }, ""},
		"batch above message":      {func(c *Config) { c.Writable.Batch.MaxKiB = c.Seal.MaxMessageKiB + 1 }, "Writable.Batch.MaxKiB"},
		"batch and data":           {func(c *Config) { c.Seal.MaxMessageKiB, c.Seal.MaxDataMiB, c.Writable.Batch.MaxKiB = 2048, 2, 2048 }, ""},
		"data and message":         {func(c *Config) { c.Seal.MaxMessageKiB, c.Seal.MaxDataMiB = 2048, 2 }, ""},
		"data below message":       {func(c *Config) { c.Seal.MaxMessageKiB, c.Seal.MaxDataMiB = 2049, 2 }, "Seal.MaxDataMiB"},
		"payload and gate":         {func(c *Config) { c.Intake.MaxMiB, c.Intake.MaxPayloadKiB = 8, 8192 }, ""},
		"payload above gate":       {func(c *Config) { c.Intake.MaxMiB, c.Intake.MaxPayloadKiB = 8, 8193 }, "Intake.MaxPayloadKiB"},
		"pieces that fit":          {big(record, nil), ""},
		"pieces too large":         {big(record+1, nil), "Writable.Classes.big.ChunkSize"},
		"whole ones that fit":      {big(-1, nil), ""},
		"pieces that never leave":  {big(record+1, func(c *task.ClassConfig) { c.NeverLeave = true }), ""},
		"pieces that are off":      {big(record+1, func(c *task.ClassConfig) { c.Off = true }), ""},
		"a spool of small records": {func(c *Config) { c.Spool.QuotaMiB = 16; big(c.Spool.LargestRecord()>>10+1, nil)(c) }, "Writable.Classes.big.ChunkSize"},
		"weights of no file":       {func(c *Config) { c.Writable.Policy.PPOWeights = "" }, ""},
		"no file of weights":       {func(c *Config) { c.Writable.Policy.PPOWeights = "nowhere.json" }, "Writable.Policy.PPOWeights"},
	} {
		c := Default()
		c.Intake.MaxPayloadKiB = 100
		row.change(&c)
		have := c.Remarks()
		if row.want == "" {
			require.Empty(t, have, name)
			continue
		}
		require.Len(t, have, 1, name)
		require.True(t, strings.HasPrefix(have[0], Section+"."+row.want+" = "), "%s: %s", name, have[0])
	}
	c := Default()
	c.Seal.MaxMessageKiB, c.Seal.MaxDataMiB, c.Writable.Batch.MaxKiB = 2048, 1, 1025
	require.Len(t, c.Remarks(), 2, "a batch above the data that are unpacked is a remark of its own")
	c = Default()
	big(-1, nil)(&c)
	c.Intake.MaxPayloadKiB = record + 2
	require.Len(t, c.Remarks(), 1)
}

// The section rejects what other packages know to be wrong with a class, unless it is off.
func TestWhatAClassIsRefusedFor(t *testing.T) {
	for name, row := range map[string]struct {
		class  string
		change func(*Config, *task.ClassConfig)
		want   string
	}{
		"an unknown policy":     {"c", func(_ *Config, k *task.ClassConfig) { k.Policy = "luck" }, `c.Policy = "luck"`},
		"a policy not ready":    {"c", func(c *Config, k *task.ClassConfig) { k.Policy = "ppo"; c.Writable.Policy.PPOWeights = "nowhere" }, `needs Writable.Policy.PPOWeights`},
		"a policy that is":      {"c", func(_ *Config, k *task.ClassConfig) { k.Policy = "cost" }, ""},
		"a name of two levels":  {"a/b", func(*Config, *task.ClassConfig) {}, "is not a valid class name"},
		"unknown operators":     {"c", func(_ *Config, k *task.ClassConfig) { k.Operators = "sumary" }, "c.Operators"},
		"a model without form":  {"c", func(_ *Config, k *task.ClassConfig) { k.Model = "=" }, "c.Model"},
		"a rule without a form": {"c", func(_ *Config, k *task.ClassConfig) { k.Hard = "=" }, "c.Hard"},
	} {
		c := Default()
		k := task.DefaultClassConfig()
		k.MatchDevice = "x"
		row.change(&c, &k)
		c.Writable.Classes[row.class] = k
		if row.want == "" {
			require.NoError(t, c.Validate(), name)
			continue
		}
		require.ErrorContains(t, c.Validate(), row.want, name)
		k.Off = true
		c.Writable.Classes[row.class] = k
		if row.class == "c" {
			require.NoError(t, c.Writable.Validate(), name)
		}
	}
}

// Hosts are names without scheme and port, separated by commas.
func TestAllowedHosts(t *testing.T) {
	for text, good := range map[string]bool{
		"": true, "*": true, "a": true, "gateway-7.plant.example": true, "a, b.c ,": true, "a.": true, "a_b": true,
		"http://a": false, "a:80": false, "a,b/": false, "-a": false, "a..b": false, "*.a": false,
	} {
		c := Default()
		c.AllowedHosts = text
		require.Equal(t, good, c.Validate() == nil, "%q", text)
		if !good {
			require.ErrorContains(t, c.Validate(), "Offload.AllowedHosts = ")
		}
	}
	require.Equal(t, []string{"a", "b.c"}, Config{AllowedHosts: " a, b.c ,"}.Hosts())
}

// An invalid configuration has its own version as well.
func TestEveryConfigurationHasAVersion(t *testing.T) {
	a, b := Default().Writable, Default().Writable
	a.Score.RTT, b.Score.RTT = "1s", "2s"
	a.Score.LinkMbit, b.Score.LinkMbit = math.Inf(1), math.Inf(1)
	require.NotEqual(t, a.Version(), b.Version())
	b.Score.RTT = "1s"
	require.Equal(t, a.Version(), b.Version())
}

// One mistake is one problem: invalid sizes are not compared with others.
func TestARefusedSizeHasNoRemarks(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"spool":  func(c *Config) { c.Spool.QuotaMiB = -1 },
		"seal":   func(c *Config) { c.Seal.MaxMessageKiB = -1 },
		"intake": func(c *Config) { c.Intake.MaxMiB = -1 },
		"batch":  func(c *Config) { c.Writable.Batch.MaxKiB = 1 << 30 },
	} {
		c := Default()
		change(&c)
		require.Error(t, c.Validate(), name)
		require.Empty(t, c.Remarks(), name)
	}
}

// Settings that use a key are rejected without a secret of keys: with them nothing could ever be sealed or stored.
func TestWhatNeedsKeys(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"Spool.Encrypt": func(c *Config) { c.Spool.Encrypt = true },
		"Seal.Cipher":   func(c *Config) { c.Seal.Cipher, c.Seal.KeyID = seal.CipherGCM, "k1" },
		"Seal.KeyID":    func(c *Config) { c.Seal.KeyID = "k1" },
	} {
		c := Default()
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, Section+"."+key+" = ")
		require.ErrorContains(t, err, "Offload.KeySecret")
		require.NotContains(t, err.Error(), "\n", "one mistake is one problem")
		c.KeySecret = "offload-keys"
		require.NoError(t, c.Validate(), key)
	}
}
