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

	"app-offload/functions/check"
	"app-offload/functions/status"
)

// ledgerFile keeps, beside the spool, the part of the account that the spool does not keep itself.
const ledgerFile = "ledger.json"

// account is what is saved. Counts are for those who look at it while the service is down.
type account struct {
	Saved  Saved
	Counts status.Counts
}

// sealed is the content of a file: a flash that loses bits does not say so.
type sealed struct {
	Saved  json.RawMessage `json:"saved"`
	Sum    *uint32         `json:"crc32"` // of Saved; nil in a file of an earlier version
	Counts any             `json:"counts,omitempty"`
}

// ErrDamaged says that a file was read and is not what was written. A file that cannot be read is not damaged.
var ErrDamaged = errors.New("the file is damaged")

// Load reads what was saved; a spool without it is new.
func Load(dir string) (Saved, error) {
	raw, err := os.ReadFile(filepath.Join(dir, ledgerFile))
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

// unseal reads what replace wrote.
func unseal(raw []byte, saved any) error {
	var f sealed
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	if sum := crc32.ChecksumIEEE(f.Saved); f.Sum != nil && sum != *f.Sum {
		return fmt.Errorf("its checksum is %08x, but its content gives %08x", *f.Sum, sum)
	}
	return json.Unmarshal(f.Saved, saved)
}

// Save replaces the file in dir as a whole. It is not synced: after a power cut an older one is as true, since what was
// done here since then is then missing in accepted and local alike. An account that has not changed is not written again. Callers take turns.
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

// replace writes what is saved as JSON with its checksum, and counts for those who look, to a file of its own that then takes the name.
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
