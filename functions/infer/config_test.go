package infer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

func TestWhatIsWrongWithAConfiguration(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for key, change := range map[string]func(*Config){
		"Models.CacheMiB": func(c *Config) { c.CacheMiB = 0 }, "Models.MaxModels": func(c *Config) { c.MaxModels = 1001 }, "Models.MaxMiB": func(c *Config) { c.MaxMiB = 0 },
		"Models.Preload": func(c *Config) { c.Preload = "ok,Not" }, "Models.Pin": func(c *Config) { c.Pin = "../x" }, "Models.Keys": func(c *Config) { c.Keys = "no key" },
		"Models.Delivery": func(c *Config) { c.Delivery, c.Keys = true, " , " }, "Models.Pool.QueueTasks": func(c *Config) { c.Pool.QueueTasks = 0 },
		"Models.Canary.Tasks": func(c *Config) { c.Canary.Tasks = fewestPairs - 1 }, "Models.Canary.Disagreement": func(c *Config) { c.Canary.Disagreement = 1.1 },
		"Models.Canary.Slower": func(c *Config) { c.Canary.Slower = 0.9 }, "Models.Runtime.Models": func(c *Config) { c.Runtime.Models = "*,Not" },
	} {
		c := DefaultConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), key+" = ")
	}
	c := DefaultConfig()
	c.Preload, c.Pin, c.Runtime.Models, c.Canary.Tasks = " a, ,b ", "c", "*", 0
	require.NoError(t, c.Validate())
	store := c.store([]string{"d"})
	require.Equal(t, [][]string{{"a", "b", "d"}, {"c"}}, [][]string{store.Preload, store.Pin})
	require.False(t, store.Canary, "new versions are used immediately")
	require.True(t, DefaultConfig().store(nil).Canary)
}

func TestAModelAndItsRule(t *testing.T) {
	for _, c := range []struct {
		model, rule     string
		inModel, inHard bool
	}{
		{"", "", false, false},
		{"m", "", false, false},
		{"m", "margin threshold=0.2", false, false},
		{"M", "", true, false},
		{"", "margin threshold=0.2", false, true},
		{"m", "nonsense", false, true},
		{"M", "nonsense", true, true},
	} {
		inModel, inHard := CheckModel(c.model, c.rule)
		require.Equal(t, []bool{c.inModel, c.inHard}, []bool{inModel != nil, inHard != nil}, "%q %q", c.model, c.rule)
		if c.model == "" && c.rule != "" {
			require.ErrorIs(t, inHard, errNoModel)
		}
	}
	require.ErrorIs(t, first(CheckModel("M", "")), models.ErrName)
}

func first(a, _ error) error { return a }

// An invalid rule rejects all classes, names its class, and leaves the previous ones in force.
func TestARuleThatCannotBeReadIsRefused(t *testing.T) {
	b := openRoom(t, nil)
	bad := task.Class{Name: "worse", Model: "bearing", Hard: "nonsense"}
	before := *b.works.Load()
	_, err := b.Prepare(local.DefaultConfig(), classes{&bad, b.class})
	require.ErrorContains(t, err, `class "worse"`)
	operators := local.DefaultConfig()
	operators.Operators = "nonsense"
	_, err = b.Prepare(operators, classes{b.class})
	require.ErrorContains(t, err, "nonsense")
	require.Equal(t, before, *b.works.Load())
	cfg := DefaultConfig()
	cfg.Directory = t.TempDir()
	_, err = Open(context.Background(), cfg, classes{&bad}, Deps{Processor: b.Processor, Publisher: b.bus, Log: noLog{}})
	require.ErrorContains(t, err, `class "worse"`)
}

type classes []*task.Class

func (c classes) All() []*task.Class                          { return c }
func (c classes) ForResource(*task.Event, string) *task.Class { return c[0] }
