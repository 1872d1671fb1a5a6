package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var one, two = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0xf2}, 16)

func quiet(string) {}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func TestAFolderOfKeysRotatesWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "2026-01.key", hex.EncodeToString(one)+"\n")
		f, err := LoadFiles(dir, quiet)
		require.NoError(t, err)
		_, err = f.Key("2026-02")
		require.ErrorContains(t, err, `no key "2026-02"`)

		write(t, dir, "2026-02.key", base64.StdEncoding.EncodeToString(two))
		time.Sleep(2 * time.Second) // a message that needs the key makes it look sooner
		key, err := f.Key("2026-02")
		require.NoError(t, err)
		require.Equal(t, two, key)
		id, _, err := f.Current()
		require.NoError(t, err)
		require.Equal(t, "2026-02", id, "the last by name is current")

		write(t, dir, "current", "2026-01\n")
		time.Sleep(11 * time.Second)
		id, key, err = f.Current()
		require.NoError(t, err)
		require.Equal(t, "2026-01", id)
		require.Equal(t, one, key)

		write(t, dir, "2026-03.key", "torn")
		time.Sleep(11 * time.Second)
		_, err = f.Key("2026-02")
		require.NoError(t, err, "an unreadable key does not take the others away")
	})
}

func TestAFileOfKeys(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "keys", "# plant 7\na "+hex.EncodeToString(one)+"\n\nb "+hex.EncodeToString(two)+"\n")
	f, err := LoadFiles(filepath.Join(dir, "keys"), quiet)
	require.NoError(t, err)
	id, key, err := f.Current()
	require.NoError(t, err)
	require.Equal(t, "b", id)
	require.Equal(t, two, key)
	key, err = f.Key("a")
	require.NoError(t, err)
	require.Equal(t, one, key)
}

func TestWhatIsNotAKeyIsRefusedWithoutShowingIt(t *testing.T) {
	for name, content := range map[string]string{
		"too short": "abcd", "no key": "id", "empty": "", "unknown current": "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "keys", "id "+content)
			_, err := LoadFiles(filepath.Join(dir, "keys"), quiet)
			require.Error(t, err)
			if len(content) > 3 {
				require.NotContains(t, err.Error(), content)
			}
		})
	}
	dir := t.TempDir()
	_, err := LoadFiles(dir, quiet)
	require.ErrorContains(t, err, "put each into a file")
	write(t, dir, "large", strings.Repeat("0", maxKeyFile+1))
	_, err = LoadFiles(dir, quiet)
	require.ErrorContains(t, err, "at most 4096")
	require.ErrorContains(t, err, "no valid key")
	_, err = LoadFiles(filepath.Join(dir, "none"), quiet)
	require.Error(t, err)
}

// A key of raw bytes may have a file with an extension; hidden files are skipped.
func TestKeysOfBareBytes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "k1", base64.StdEncoding.EncodeToString(one)+"\n")
	write(t, dir, "k2.key", string(two))
	write(t, dir, "current", "k2\n")
	write(t, dir, ".hidden", "x")
	f, err := LoadFiles(dir, quiet)
	require.NoError(t, err)
	id, key, err := f.Current()
	require.NoError(t, err)
	require.Equal(t, "k2", id)
	require.Equal(t, two, key)
	write(t, dir, "k3", "hunter2")
	f, err = LoadFiles(dir, quiet)
	require.NoError(t, err)
	require.Contains(t, f.Problem(), "16, 24 or 32 bytes")
	require.NotContains(t, f.Problem(), "hunter2")
}

// One bad entry affects no other, at the start and later, in a folder and in a file of lines, and is reported once.
func TestABadKeyRefusesNoOther(t *testing.T) {
	good, other := hex.EncodeToString(one), hex.EncodeToString(two)
	for name, c := range map[string]struct {
		folder           bool
		before, after    map[string]string // files; the only one is that of lines
		current, problem string
	}{
		"a key half copied":    {true, map[string]string{"k1": good}, map[string]string{"k2": good[:20]}, "k1", "k2: is not"},
		"overwritten":          {true, map[string]string{"k1": good, "k2": other}, map[string]string{"k2": ""}, "k2", "k2: is not"},
		"no id":                {true, map[string]string{"k1": good}, map[string]string{"k 2": other}, "k1", "blanks"},
		"large":                {true, map[string]string{"k1": good}, map[string]string{"k2": strings.Repeat("0", maxKeyFile+1)}, "k1", "at most 4096"},
		"current names none":   {true, map[string]string{"k1": good, "current": "k1"}, map[string]string{"current": "k7"}, "k1", `current key "k7"`},
		"current half written": {true, map[string]string{"k1": good, "k2": other, "current": "k1"}, map[string]string{"current": ""}, "k1", `current key ""`},
		"current too large":    {true, map[string]string{"k1": good, "k2": other, "current": "k1"}, map[string]string{"current": strings.Repeat("k", maxKeyFile+1)}, "k1", "at most 4096"},
		"a bad line":           {false, map[string]string{"keys": "k1 " + good}, map[string]string{"keys": "k1 " + good + "\nk2 0"}, "k1", "line 2"},
		"a copy of an old key": {true, map[string]string{"k1": good, "k2.key": good}, map[string]string{"k2.key~": other}, "k2", `k2.key~: is a different key with the id "k2"`},
		"two lines of one id":  {false, map[string]string{"keys": "k1 " + good}, map[string]string{"keys": "k1 " + good + "\nk2 " + good + "\nk2 " + other}, "k1", `line 3: is a different key with the id "k2"`},
		"a line without an id": {false, map[string]string{"keys": "k1 " + good}, map[string]string{"keys": "k1 " + good + "\n" + other}, "k1", "line 2: write the id"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "keys")
				if c.folder {
					path = dir
				}
				put := func(files map[string]string) {
					for name, content := range files {
						write(t, dir, name, content)
					}
				}
				put(c.before)
				var reports []string
				f, err := LoadFiles(path, func(problem string) { reports = append(reports, problem) })
				require.NoError(t, err)
				put(c.after)
				require.Empty(t, f.Problem(), "the files are read every few seconds")
				for range 3 {
					time.Sleep(fresh)
					id, key, err := f.Current()
					require.NoError(t, err)
					require.Equal(t, c.current, id)
					require.NotEmpty(t, key)
				}
				require.Len(t, reports, 1)
				require.Contains(t, f.Problem(), c.problem)
				require.NotContains(t, reports[0], other)
				put(c.before)
				for file := range c.after {
					if _, was := c.before[file]; !was {
						require.NoError(t, os.Remove(filepath.Join(dir, file)))
					}
				}
				time.Sleep(fresh)
				require.Empty(t, f.Problem())
				require.Equal(t, "", reports[len(reports)-1])

				put(c.after)
				if _, named := c.after["current"]; !named {
					again, err := LoadFiles(path, quiet)
					require.NoError(t, err, "at the start")
					key, err := again.Key("k1")
					require.NoError(t, err)
					require.Equal(t, one, key)
				}
			})
		})
	}
}

// Of different keys with one id none is used at a start, however many there are. The same key twice is no problem.
func TestAnIDNamesOneKey(t *testing.T) {
	dir := t.TempDir()
	for name, key := range map[string][]byte{"k1": one, "2026.01": one, "2026.02": two, "2026.03": two, "2026.04": one, "k0.a": one, "k0.b": one} {
		write(t, dir, name, hex.EncodeToString(key))
	}
	f, err := LoadFiles(dir, quiet)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(f.Problem(), `a different key with the id "2026"`), f.Problem())
	_, err = f.Key("2026")
	require.ErrorContains(t, err, "no key")
	for _, id := range []string{"k0", "k1"} {
		key, err := f.Key(id)
		require.NoError(t, err)
		require.Equal(t, one, key)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "k1")))
	f, err = LoadFiles(dir, quiet)
	require.NoError(t, err)
	id, _, err := f.Current()
	require.NoError(t, err)
	require.Equal(t, "k0", id)
}

// While no good key is current, new ones can open all the same.
func TestANewKeyOpensBeforeItIsCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "k1", hex.EncodeToString(one))
		f, err := LoadFiles(dir, quiet)
		require.NoError(t, err)
		write(t, dir, "k2", hex.EncodeToString(two))
		write(t, dir, "current", "k7")
		time.Sleep(fresh)
		id, _, err := f.Current()
		require.NoError(t, err)
		require.Equal(t, "k1", id)
		key, err := f.Key("k2")
		require.NoError(t, err)
		require.Equal(t, two, key)
	})
}

// A special file does not block the reader.
func TestAPipeAmongTheKeysIsNotRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "k1", hex.EncodeToString(one))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "k2"), 0o600))
	f, err := LoadFiles(dir, quiet)
	require.NoError(t, err)
	require.Contains(t, f.Problem(), "must be a file")
}

// A path that is neither a folder nor a file, such as a pipe or a device, is not read, and neither is a file too large for keys.
func TestAPipeInThePlaceOfTheKeysIsNotRead(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	for _, path := range []string{pipe, "/dev/zero"} {
		_, err := LoadFiles(path, quiet)
		require.ErrorContains(t, err, path+": must be a file or a folder")
	}
	large := filepath.Join(dir, "large")
	comment := "# " + strings.Repeat("x", maxKeysFile-len("# \nk1 "+hexKey)) + "\nk1 " + hexKey
	for more, want := range map[string]string{"": "", "\n": "at most 1048576"} {
		require.NoError(t, os.WriteFile(large, []byte(comment+more), 0o600))
		_, err := LoadFiles(large, quiet)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

// Lines may be indented and end as on Windows, and a folder among the keys is no key; a dangling link is reported.
func TestLinesAndFoldersAsTheyCome(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "lines", "  k1 "+hex.EncodeToString(one)+"\r\n\t# a comment\r\n   \n\tk2 "+hex.EncodeToString(two)+"\r\n")
	f, err := LoadFiles(filepath.Join(dir, "lines"), quiet)
	require.NoError(t, err)
	require.Empty(t, f.Problem())
	for id, want := range map[string][]byte{"k1": one, "k2": two} {
		key, err := f.Key(id)
		require.NoError(t, err)
		require.Equal(t, want, key)
	}
	folder := filepath.Join(dir, "folder")
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "sub"), 0o700))
	write(t, folder, "k1", hex.EncodeToString(one))
	f, err = LoadFiles(folder, quiet)
	require.NoError(t, err)
	require.Empty(t, f.Problem())
	require.NoError(t, os.Symlink("nowhere", filepath.Join(folder, "k2")))
	f, err = LoadFiles(folder, quiet)
	require.NoError(t, err)
	require.Contains(t, f.Problem(), "k2")
}
