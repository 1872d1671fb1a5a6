package models

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

// A look reports every version of both variants, the version in force, and all problems; it changes nothing.
func TestALookReportsEveryVersion(t *testing.T) {
	dir := t.TempDir()
	cloudy := func(m *Manifest) { m.Variant = Cloud }
	for v, made1 := range map[Version]float32{"1": 1, "2": 2} {
		file := made(t, 4, made1)
		put(t, dir, describe(t, "m", v, file), file)
		put(t, dir, describe(t, "m", v+".5", file, cloudy), file)
		put(t, dir, describe(t, "n", v, file), file)
	}
	broken := made(t, 4, 3)
	folder := put(t, dir, describe(t, "m", "3", broken), broken)
	overwrite(t, folder+"/"+describe(t, "m", "3", broken).File, 10)
	require.NoError(t, os.MkdirAll(dir+"/empty", 0o750))
	require.NoError(t, os.WriteFile(dir+"/empty/"+ManifestFile, nil, 0o600))
	s := open(t, dir)
	require.NoError(t, use(t, s, "n", "1", true))
	require.NoError(t, s.Close(t.Context()))

	cfg := DefaultConfig()
	cfg.Dir = dir
	l, err := LookAt(cfg)
	require.NoError(t, err)
	defer l.Close()
	require.Len(t, l.Problems, 1)
	type found struct {
		name, variant string
		version       Version
		inForce, well bool
	}
	var all []found
	for _, r := range l.Reports() {
		all = append(all, found{r.Name, r.Variant, r.Version, r.InForce, r.Problem == ""})
		require.Equal(t, r.Problem == "", r.Bytes > 0 && r.MACs > 0 && r.Run > 0, "%+v", r)
		require.Equal(t, [3]string{"tflite", "numbers", "values"}, [3]string{r.Engine, r.Input, r.Output})
	}
	require.Equal(t, []found{
		{"m", Edge, "1", false, true},
		{"m", Edge, "2", true, true},
		{"m", Edge, "3", false, false},
		{"m", Cloud, "1.5", false, true},
		{"m", Cloud, "2.5", true, true},
		{"n", Edge, "1", true, true},
		{"n", Edge, "2", false, true},
	}, all)
	for name, want := range map[[2]string]float64{{"m", Edge}: 2, {"m", Cloud}: 2, {"n", Edge}: 1} {
		a, err := l.Ask(name[0], name[1], numbers("[1,2,3,4]"))
		require.NoError(t, err)
		require.Equal(t, []float64{want}, a.Values, "%v", name)
	}
	for _, name := range [][2]string{{"n", Cloud}, {"x", Edge}} {
		m, err := l.Model(name[0], name[1])
		require.Nil(t, m)
		require.ErrorIs(t, err, ErrUnknown)
		_, err = l.Ask(name[0], name[1], numbers("[1,2,3,4]"))
		require.ErrorContains(t, err, name[0])
	}
}

// A model is usable while a version is in force that has not failed recently; the measurements are of that version.
func TestWhichModelsAreUsable(t *testing.T) {
	dir := t.TempDir()
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	m := describe(t, "m", "1", made(t, 4, 1))
	path := put(t, dir, m, made(t, 4, 1)) + "/" + m.File
	overwrite(t, put(t, dir, describe(t, "bad", "1", made(t, 4, 1)), made(t, 4, 1))+"/"+m.File, 10)
	s := open(t, dir)
	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, s.Usable("m"), ErrClosed)
	s, err := Open(t.Context(), s.cfg, clock.New(fake))
	require.NoError(t, err)
	defer func() { _ = s.Close(t.Context()) }()

	require.ErrorIs(t, s.Usable("none"), ErrUnknown)
	require.ErrorContains(t, s.Usable("bad"), "has 10 bytes", "no version of it has ever been in force")
	_, _, took := s.Measured("none")
	require.Zero(t, took)
	require.NoError(t, s.Usable("m"))
	v, macs, took := s.Measured("m")
	require.Equal(t, Version("1"), v)
	require.Zero(t, macs, "it was not loaded yet")
	require.Zero(t, took)
	require.InDelta(t, 1, value(t, s, "m"), 0)
	_, macs, took = s.Measured("m")
	require.EqualValues(t, 4, macs)
	require.Positive(t, took)
	resource, err := s.Reads("m", numbers("[1,2,3,4]"))
	require.NoError(t, err)
	require.Equal(t, "r", resource)
	require.NoError(t, s.Close(t.Context()))

	overwrite(t, path, 10)
	s, err = Open(t.Context(), s.cfg, clock.New(fake))
	require.NoError(t, err)
	defer func() { _ = s.Close(t.Context()) }()
	require.NoError(t, s.Usable("m"), "nothing is known of its file yet")
	_, err = s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
	require.Error(t, err)
	require.ErrorContains(t, s.Usable("m"), "has 10 bytes")
	_, err = s.Reads("m", numbers("[1,2,3,4]"))
	require.ErrorContains(t, err, "has 10 bytes")
	fake.Advance(retryAfter)
	require.NoError(t, s.Usable("m"), "it may be retried")
}

// An upload that cannot be stored is an error that names the version, and changes nothing.
func TestAnInstallThatFailsSaysSo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	file := made(t, 4, 1)
	m := text(t, describe(t, "m", "1", file))
	require.ErrorContains(t, s.Install(t.Context(), m, nil, "missing", false), "installing model m 1: ")
	require.ErrorContains(t, s.Install(t.Context(), []byte("{"), nil, "missing", false), "installing a model: ")
	require.ErrorIs(t, s.Usable("m"), ErrUnknown)
	require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
	require.NoError(t, s.Install(t.Context(), m, nil, ".in", false))
	require.NoError(t, s.Usable("m"))
	require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
	require.NoError(t, s.Install(t.Context(), m, nil, ".in", false), "it is there")
	require.NoFileExists(t, dir+"/.in")
}

// A manifest has only known keys, each once, and nothing after them: a typing error would silently select a default.
func TestAManifestHasNoOtherKeys(t *testing.T) {
	good := text(t, describe(t, "m", "1", made(t, 4, 1), func(m *Manifest) { m.File = "Model-AZaz_09.tflite" }))
	_, err := ParseManifest(good)
	require.NoError(t, err)
	for old, added := range map[string]string{`{"format"`: `{"licence":"MIT","format"`, `"input":{`: `"input":{"colour":"grey",`} {
		spoilt := bytes.Replace(good, []byte(old), []byte(added), 1)
		require.NotEqual(t, good, spoilt, old)
		_, err := ParseManifest(spoilt)
		require.Error(t, err, added)
	}
	_, err = ParseManifest(append(bytes.Clone(good), "{}"...))
	require.Error(t, err)
	_, err = ParseManifest(append(bytes.Clone(good), " \n"...))
	require.NoError(t, err)
}

// Each number of the configuration has its range, and problems are named.
func TestTheRangesOfAStore(t *testing.T) {
	for name, c := range map[string]struct {
		at        func(c *Config) *int
		low, high int
	}{
		"MaxModels": {func(c *Config) *int { return &c.MaxModels }, 1, 1000}, "MaxMiB": {func(c *Config) *int { return &c.MaxMiB }, 1, 2000},
		"MemoryMiB": {func(c *Config) *int { return &c.MemoryMiB }, 1, 65536}, "Sessions": {func(c *Config) *int { return &c.Sessions }, 0, 256},
	} {
		for v, valid := range map[int]bool{c.low: true, c.high: true, c.low - 1: false, c.high + 1: false} {
			cfg := DefaultConfig()
			if *c.at(&cfg) = v; valid {
				require.NoError(t, cfg.Validate(), "%s = %d", name, v)
			} else {
				require.ErrorContains(t, cfg.Validate(), "Models."+name, "%d", v)
			}
		}
	}
	for key, change := range map[string]func(c *Config){
		"Dir": func(c *Config) { c.Dir = "" }, "Variant": func(c *Config) { c.Variant = "fog" }, "Pin": func(c *Config) { c.Pin = []string{"a/b"} },
		"Preload": func(c *Config) { c.Preload = []string{"A"} },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), "Models."+key)
		s, err := Open(t.Context(), cfg, nil)
		require.Error(t, err)
		require.Nil(t, s)
	}
}

// A store accepts a number of models, of its variant, and reports why it rejects others.
func TestWhichModelsAStoreTakes(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "a", "1", file), file)
	s := open(t, dir, func(c *Config) { c.MaxModels = 2 })
	offer := func(name string, v Version, change ...func(*Manifest)) error {
		m, err := s.Accepts(text(t, describe(t, name, v, file, change...)), nil, false)
		require.Equal(t, name, m.Name)
		return err
	}
	require.NoError(t, offer("b", "1"))
	require.ErrorIs(t, offer("a", "1"), ErrInstalled)
	require.ErrorContains(t, offer("b", "1", func(m *Manifest) { m.Variant = Cloud }), "expected edge")
	put(t, dir, describe(t, "b", "1", file), file)
	require.NoError(t, s.Scan(t.Context()))
	require.ErrorContains(t, offer("c", "1"), "there are already 2 models; raise MaxModels")
	require.NoError(t, offer("a", "2"), "another version is no other model")
}
