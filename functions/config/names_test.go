package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// Everything that passes validation can be sealed and opened: no name is accepted that would make every record malformed.
func FuzzWhatValidatesCanBeSealed(f *testing.F) {
	for _, s := range []string{
		"plant-7", "a\uFFFDb", "a\rb", "k1\n", "\u0085", "\u2028", "\u00ad", "ä", "a\x7f", "\xff", "a\u200bb", "\U0010FFFF", "", "x y", "\u0301", "%", "..",
	} {
		f.Add(s, "default", "")
		f.Add("edge", s, "")
		f.Add("edge", "default", s)
	}
	f.Fuzz(func(t *testing.T, node, class, keyID string) {
		c := Default()
		c.Node, c.KeySecret, c.Seal.KeyID = node, "offload-keys", keyID
		c.Writable.Classes[class] = task.DefaultClassConfig()
		if c.Validate() != nil {
			return
		}
		keys := keys{keyID}
		s, err := seal.NewSealer(c.Seal, keys)
		require.NoError(t, err)
		sent := &seal.Batch{
			ID: "b", Node: node, Epoch: "e", Session: "s", Class: class, Created: time.Unix(0, 0).UTC(), Sequences: []uint64{1},
			Tasks: [][]byte{(&task.Task{EventID: "e", Of: 1, Class: &task.Class{Name: class}, Encoding: task.Text, Data: []byte("1")}).Append(nil)},
		}
		msg, err := s.Seal(nil, sent)
		require.NoError(t, err, "%q %q %q", node, class, keyID)
		got, err := seal.NewOpener(keys, seal.Limits{}).Open(msg)
		require.NoError(t, err)
		require.Equal(t, node, got.Node)
	})
}

type keys struct{ id string }

func (k keys) Current() (string, []byte, error) { return k.id, make([]byte, 32), nil }
func (k keys) Key(string) ([]byte, error)       { return make([]byte, 32), nil }

func TestNodeNamesThatCannotBeSealedAreRefused(t *testing.T) {
	for _, name := range []string{"a\uFFFDb", "a\rb", "a\nb", "\x00", "a\x7f", "\xff", "\u2028", "\u0085"} {
		c := Default()
		c.Node = name
		require.ErrorContains(t, c.Validate(), "Node", "%q", name)
		c = Default()
		if c.Seal.KeyID = name; name == "\u2028" {
			continue // it can be sealed
		}
		require.ErrorContains(t, c.Validate(), "KeyID", "%q", name)
	}
}

// Limits of successive packages are compared, by the start and by lint alike.
func TestLimitsOfNeighbouringRoomsAreCompared(t *testing.T) {
	require.Empty(t, Default().Remarks())
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"never cut, but taken": {func(c *Config) {
			class := task.DefaultClassConfig()
			class.ChunkSize = -1
			c.Writable.Classes["big"] = class
		}, "Classes.big.ChunkSize"},
		"pieces above the message": {func(c *Config) {
			class := task.DefaultClassConfig()
			class.ChunkSize = 900
			c.Writable.Classes["big"] = class
		}, "Seal.MaxMessageKiB"},
		"payload below the message": {func(c *Config) { c.Seal.MaxDataMiB, c.Seal.MaxMessageKiB = 1, 2048 }, "Seal.MaxDataMiB"},
		"an event above the gate":   {func(c *Config) { c.Intake.MaxMiB = 8 }, "Intake.MaxPayloadKiB"},
		"a batch above the message": {func(c *Config) { c.Writable.Batch.MaxKiB = 2000 }, "Writable.Batch.MaxKiB"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			tc.change(&c)
			require.Contains(t, strings.Join(c.Remarks(), "\n"), tc.want)
		})
	}
}
