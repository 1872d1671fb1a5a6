package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"app-offload/functions/atomicfile"
	"app-offload/functions/check"
	"app-offload/functions/status"
)

// ledgerFile is a file beside the spool with the part of the account that the spool does not keep.
const ledgerFile = "ledger.json"

// account is the saved account. Counts is for users who read the file while the service is down.
type account struct {
	Saved  Saved
	Counts status.Counts
}

// sealed is the content of a file, with a checksum, since flash that loses bits does not report it.
type sealed struct {
	Saved  json.RawMessage `json:"saved"`
	Sum    *uint32         `json:"crc32"` // of Saved; nil in files of earlier versions
	Counts any             `json:"counts,omitempty"`
}

// ErrDamaged reports a file whose content differs from what was written. An unreadable file is not damaged.
var ErrDamaged = errors.New("the file is damaged")

// Load reads the saved account. Without a file the spool is new.
func Load(dir string) (Saved, error) {
	raw, err := atomicfile.Read(filepath.Join(dir, ledgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Saved{}, nil
	}
	if err != nil {
		return Saved{}, fmt.Errorf("reading the account: %w", check.Access(err))
	}
	var s Saved
	if err := unseal(raw, &s); err != nil {
		return Saved{}, fmt.Errorf("reading the account: %w: %w", ErrDamaged, err)
	}
	return s, nil
}

// unseal reads the output of replace.
func unseal(raw []byte, saved any) error {
	var f sealed
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	if sum := crc32.ChecksumIEEE(f.Saved); f.Sum != nil && sum != *f.Sum {
		return fmt.Errorf("checksum mismatch: stored %08x, computed %08x", *f.Sum, sum)
	}
	return json.Unmarshal(f.Saved, saved)
}

// Save replaces the file in dir. It does not sync: after a power cut an older file is equally consistent, since tasks done locally since then are
// missing from accepted and local alike. An unchanged account is not written again. Only one goroutine may call Save at a time.
func (l *Ledger) Save(dir string, c status.Counts) error {
	a := account{Saved: l.Saved(), Counts: c}
	if l.written != nil && reflect.DeepEqual(*l.written, a) {
		return nil
	}
	if err := replace(filepath.Join(dir, ledgerFile), a.Saved, c); err != nil {
		return fmt.Errorf("saving the account: %w", err)
	}
	l.written = &a
	return nil
}

// replace writes saved as JSON with its checksum, and the counts for readers, to a temporary file and renames it.
func replace(path string, saved, counts any) error {
	content, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	sum := crc32.ChecksumIEEE(content)
	raw, err := json.Marshal(sealed{content, &sum, counts})
	if err == nil {
		err = os.WriteFile(path+".tmp", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	return err
}
