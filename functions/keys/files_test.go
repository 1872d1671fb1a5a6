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
)

var one, two = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0xf2}, 16)

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func TestAFolderOfKeysRotatesWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "2026-01.key", hex.EncodeToString(one)+"\n")
		f, err := LoadFiles(dir)
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
	f, err := LoadFiles(filepath.Join(dir, "keys"))
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
			_, err := LoadFiles(filepath.Join(dir, "keys"))
			require.Error(t, err)
			if len(content) > 3 {
				require.NotContains(t, err.Error(), content)
			}
		})
	}
	dir := t.TempDir()
	_, err := LoadFiles(dir)
	require.ErrorContains(t, err, "put each into a file")
	write(t, dir, "large", strings.Repeat("0", maxKeyFile+1))
	_, err = LoadFiles(dir)
	require.ErrorContains(t, err, "at most 4096")
	_, err = LoadFiles(filepath.Join(dir, "none"))
	require.Error(t, err)
}

// A key of bare bytes may have a file with an ending; hidden files are passed over.
func TestKeysOfBareBytes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "k1", base64.StdEncoding.EncodeToString(one)+"\n")
	write(t, dir, "k2.key", string(two))
	write(t, dir, "current", "k2\n")
	write(t, dir, ".hidden", "x")
	f, err := LoadFiles(dir)
	require.NoError(t, err)
	id, key, err := f.Current()
	require.NoError(t, err)
	require.Equal(t, "k2", id)
	require.Equal(t, two, key)
	write(t, dir, "k3", "hunter2")
	_, err = LoadFiles(dir)
	require.ErrorContains(t, err, "16, 24 or 32 bytes")
	require.NotContains(t, err.Error(), "hunter2")
}
