package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// testKeys are keys by id.
type testKeys struct {
	mu      sync.Mutex
	current string
	keys    map[string][]byte
}

func (k *testKeys) set(current string, ids ...string) *testKeys {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current, k.keys = current, map[string][]byte{}
	for _, id := range ids {
		k.keys[id] = bytes.Repeat([]byte(id[:1]), 32)
	}
	return k
}

func (k *testKeys) Current() (string, []byte, error) {
	key, err := k.Key(k.current)
	return k.current, key, err
}

func (k *testKeys) Key(id string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	return nil, errors.New("no such key")
}

func encrypted() Config {
	cfg := DefaultConfig()
	cfg.Encrypt = true
	return cfg
}

func TestEncryptedAtRestAcrossRotation(t *testing.T) {
	dir, keys := t.TempDir(), new(testKeys).set("a", "a")
	s, err := Open(dir, encrypted(), WithKeys(keys), small(16<<20, 1<<20, 0))
	require.NoError(t, err)
	secret := bytes.Repeat([]byte("very secret text "), 50)
	require.NoError(t, put(s, Record{Lane: 1, Class: "c", Payload: secret}))
	keys.set("b", "a", "b")
	require.NoError(t, put(s, Record{Lane: 1, Class: "c", Payload: secret}))
	require.Equal(t, 2, s.Stats().Segments, "rotation takes effect with the next record")
	got := s.Take(1, "", Backlog, 9, 1<<20, nil)
	require.Len(t, got, 2)
	require.Equal(t, secret, got[1].Payload)
	require.NoError(t, s.Close())
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(b), "secret", name)
	}

	// Late or wrong keys lose no record: the records wait.
	keys.set("b", "b")
	keys.keys["b"] = bytes.Repeat([]byte("x"), 32)
	s = open(t, dir, encrypted(), WithKeys(keys))
	st := balanced(t, s)
	require.EqualValues(t, 2, st.Locked)
	require.Contains(t, st.Problem, "key")
	require.Empty(t, s.Take(1, "", Backlog, 9, 1<<20, nil))
	keys.set("b", "a", "b")
	require.NoError(t, s.sweep())
	require.Len(t, s.Take(1, "", Backlog, 9, 1<<20, nil), 2)
	require.Empty(t, s.Damages())
}

func TestEncryptionNeedsKeys(t *testing.T) {
	_, err := Open(t.TempDir(), encrypted())
	require.ErrorContains(t, err, "no keys")
	s := open(t, t.TempDir(), encrypted(), WithKeys(new(testKeys)))
	require.ErrorContains(t, put(s, rec(1, "c", 10, 1)), "no such key")
	balanced(t, s)
}

// The cipher detects an altered record with corrected checksums.
func TestForgedRecordIsSetAside(t *testing.T) {
	dir, keys := t.TempDir(), new(testKeys).set("a", "a")
	s, err := Open(dir, encrypted(), WithKeys(keys))
	require.NoError(t, err)
	require.NoError(t, put(s, rec(1, "c", 100, 1), rec(1, "c", 100, 2)))
	require.NoError(t, s.Close())
	name := filepath.Join(dir, segmentName(1, 1))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	h, ok := parseSegmentHeader(b)
	require.True(t, ok)
	b[dataStart+24] ^= 1 // the time
	finishRecord(b[dataStart:dataStart+headerSize+1+100+tagSize], h.seed())
	require.NoError(t, os.WriteFile(name, b, 0o600))
	r, err := Verify(dir, WithKeys(keys))
	require.NoError(t, err)
	require.Contains(t, r.Damages[0].Reason, reasonForged)
	s = open(t, dir, encrypted(), WithKeys(keys))
	require.Equal(t, []uint64{2}, seqs(s.Take(1, "", Backlog, 9, 1<<20, nil)))
	require.EqualValues(t, 1, balanced(t, s).Dropped[ReasonQuarantined])
}

// No pair of segment key and nonce is used for two records, across restarts, power cuts, failed commits and reused files: each segment that ever was
// on a disk has its own salt, and contains each sequence once.
func TestNonceNeverRepeats(t *testing.T) {
	keys := new(testKeys).set("a", "a")
	disk := crashFS{vfs.NewCrashableMem(), func() {}}
	used := map[[saltSize]byte]map[uint64][]byte{}
	for life := range 40 {
		s, err := Open("/spool", encrypted(), WithFS(disk), WithKeys(keys), small(16<<20, 8<<10, 1<<20))
		require.NoError(t, err)
		for i := range 20 {
			require.NoError(t, put(s, rec(i%3, "c", 1000, life*100+i)))
		}
		for lane := range 3 {
			for from := Live; from <= Backlog; from++ {
				s.Done(seqs(s.Take(lane, "", from, 5, 1<<20, nil)))
			}
		}
		require.NoError(t, s.Checkpoint())
		c := make(chan error, 1)
		s.Append([]Record{rec(0, "c", 3000, life)}, func(err error) { c <- err })
		next := crashFS{disk.CrashClone(vfs.CrashCloneCfg{}), func() {}}
		noteNonces(t, next, used)
		require.NoError(t, <-c)
		require.NoError(t, s.Close())
		noteNonces(t, disk, used)
		if life%2 == 0 {
			disk = next
		}
	}
}

func noteNonces(t *testing.T, disk crashFS, used map[[saltSize]byte]map[uint64][]byte) {
	t.Helper()
	names, err := disk.List("/spool")
	require.NoError(t, err)
	for _, id := range segmentFiles(names) {
		l := &loader{fs: disk, dir: "/spool", rescan: true}
		f, err := l.load(id.lane, id.id, nil)
		if errors.Is(err, errUnused) || errors.Is(err, errNoHeader) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		seen := used[f.salt]
		if seen == nil {
			seen = map[uint64][]byte{}
			used[f.salt] = seen
		}
		file, err := disk.Open("/spool/"+f.name(), false)
		require.NoError(t, err)
		for _, e := range f.entries {
			b := make([]byte, e.size)
			_, err := file.ReadAt(b, int64(e.off))
			require.NoError(t, err)
			seq := f.base + uint64(e.seq)
			if old := seen[seq]; old != nil {
				require.Equal(t, old, b, "two records under one nonce")
			}
			seen[seq] = b
		}
		require.NoError(t, file.Close())
	}
}
