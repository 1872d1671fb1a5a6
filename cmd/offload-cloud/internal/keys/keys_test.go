package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
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
		f, err := Load(dir)
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
	f, err := Load(filepath.Join(dir, "keys"))
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
			_, err := Load(filepath.Join(dir, "keys"))
			require.Error(t, err)
			if len(content) > 3 {
				require.NotContains(t, err.Error(), content)
			}
		})
	}
	_, err := Load(t.TempDir())
	require.ErrorContains(t, err, "current")
}
