package models

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A pipe in place of a file does not block, and the other models are used.
func TestAPipeAmongTheModels(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "good", "1", file), file)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pipe"), 0o750))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe", ManifestFile), 0o600))
	folder := put(t, dir, describe(t, "bad", "1", file), file)
	require.NoError(t, os.Remove(filepath.Join(folder, "model.tflite")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(folder, "model.tflite"), 0o600))
	s := open(t, dir)
	require.EqualValues(t, 1, value(t, s, "good"))
	require.Contains(t, status(t, s, "bad").Problem, "not a regular file")
	_, problems := s.Status()
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "not a regular file")
}

// A link is read as its target folder if that is in the store; a link to nowhere, or out of the store, is reported.
func TestLinksAmongTheModels(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	file := made(t, 4, 1)
	outside := put(t, other, describe(t, "a", "1", file), file)
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".data"), 0o750))
	put(t, filepath.Join(dir, ".data"), describe(t, "b", "1", file), file)
	for name, to := range map[string]string{"a": outside, "b": ".data/b.edge.1", "c": "nowhere", "d": "README"} {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))
	s := open(t, dir)
	require.EqualValues(t, 1, value(t, s, "b"))
	_, problems := s.Status()
	require.Len(t, problems, 2)
	require.Regexp(t, "^a: ", problems[0])
	require.Regexp(t, "^c: ", problems[1])
}

// An empty state is rejected like an unreadable one: it would undo a rollback.
func TestAStateThatSaysNothing(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Dir = dir
	for _, state := range []string{"", "null", "[]", `{"m":null}`, `{"m":{"version":"1"}}`, `{"m":{"version":"1","newest":"v2"}}`, `{"m":{"version":1,"newest":"2"}}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, stateFile), []byte(state), 0o600))
		_, err := Open(t.Context(), cfg, nil)
		require.ErrorContains(t, err, stateFile, state)
	}
}

// An install into a folder without room, because other folders were added manually, changes nothing.
func TestAnInstallThatTheFolderHasNoRoomFor(t *testing.T) {
	file := made(t, 4, 1)
	install := func(s *Store, dir, name string, v Version) error {
		require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
		return s.Install(t.Context(), text(t, describe(t, name, v, file)), nil, ".in", false)
	}
	dir := t.TempDir()
	s := open(t, dir, func(c *Config) { c.MaxModels = 1 })
	put(t, dir, describe(t, "a", "1", file), file)
	require.ErrorContains(t, install(s, dir, "b", "1"), "MaxModels")
	require.NoDirExists(t, dir+"/b.edge.1")
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 1, value(t, s, "a"))

	for i := range maxVersions {
		put(t, dir, describe(t, "a", Version(fmt.Sprint(i+1)), file), file)
	}
	require.NoError(t, s.Scan(t.Context()))
	require.ErrorContains(t, install(s, dir, "a", "99"), "remove old ones")
	require.NoDirExists(t, dir+"/a.edge.99")
	require.Equal(t, Version("16"), status(t, s, "a").Version)
}

// The text of a foreign file is truncated before it is kept as a problem.
func TestProblemsAreShort(t *testing.T) {
	dir, long := t.TempDir(), strings.Repeat("x", 60_000)
	require.NoError(t, os.Mkdir(dir+"/a", 0o750))
	require.NoError(t, os.WriteFile(dir+"/a/"+ManifestFile, []byte(`{"`+long+`":1}`), 0o600))
	file := made(t, 4, 1)
	put(t, dir, describe(t, "b", "1", file, func(m *Manifest) { m.Inputs[0].Type = long }), file)
	put(t, dir, describe(t, "c", "1", file, func(m *Manifest) {
		m.Inputs[0].Shape = make([]int, 20_000)
		for i := range m.Inputs[0].Shape {
			m.Inputs[0].Shape[i] = 1
		}
	}), file)
	s := open(t, dir)
	_, problems := s.Status()
	for _, problem := range append(problems, status(t, s, "b").Problem, status(t, s, "c").Problem) {
		require.NotEmpty(t, problem)
		require.Less(t, len(problem), 2*maxProblem)
	}
}

// A version in force whose folder is unreadable for a while is in force again afterwards; an older one does not replace it permanently.
func TestAFolderThatCannotBeReadForAWhile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	folder := put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	s := open(t, dir)
	evict := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(s.models["m"].loaded)
		s.models["m"].loaded = nil
	}
	evict()
	manifest := folder + "/" + ManifestFile
	require.NoError(t, os.Rename(manifest, manifest+".away"))
	require.NoError(t, os.Mkdir(manifest, 0o700))
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 2, value(t, s, "m"), "its file can still be read")
	evict()
	require.NoError(t, os.Remove(manifest))
	require.NoError(t, os.Rename(manifest+".away", manifest))
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 2, value(t, s, "m"))
	evict()
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 1, value(t, s, "m"), "it was removed")
}

// The store keeps the folder that it has opened. If another folder replaces it, the status reports it.
func TestAFolderThatIsMovedIsReported(t *testing.T) {
	dir := t.TempDir() + "/models"
	require.NoError(t, os.Mkdir(dir, 0o750))
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir)
	moved := func() bool {
		require.NoError(t, s.Scan(t.Context()))
		_, problems := s.Status()
		return slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, dir+" was removed, moved or replaced") })
	}
	require.False(t, moved())
	require.NoError(t, os.Rename(dir, dir+".old"))
	require.True(t, moved())
	require.NoError(t, os.Mkdir(dir, 0o750))
	require.True(t, moved())
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".old", dir))
	require.False(t, moved())
}

// A folder is identified by its real name, not by a link to it, which a removal of the version would remove instead.
func TestALinkBeforeItsFolder(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	require.NoError(t, os.Symlink("m.edge.1", dir+"/a"))
	s := open(t, dir)
	require.Equal(t, "m.edge.1", status(t, s, "m").Folder)
	_, problems := s.Status()
	require.Equal(t, []string{"a: version 1 of model m is already in the folder m.edge.1"}, problems)
}

// A file that cannot be replaced is reported, and what it had stays.
func TestAFileThatCannotBeReplacedIsReported(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "state", "in the way"), 0o700))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	require.Error(t, WriteFile(root, "state", []byte("{}")))
	require.DirExists(t, filepath.Join(dir, "state", "in the way"))
}
