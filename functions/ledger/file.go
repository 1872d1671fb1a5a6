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

// sealed is the file's content: a flash that loses bits does not say so.
type sealed struct {
	Saved  json.RawMessage `json:"saved"`
	Sum    *uint32         `json:"crc32"` // of Saved; nil in a file of an earlier version
	Counts any             `json:"counts"`
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
	var a sealed
	err = json.Unmarshal(raw, &a)
	if sum := crc32.ChecksumIEEE(a.Saved); err == nil && a.Sum != nil && sum != *a.Sum {
		err = fmt.Errorf("its checksum is %08x, but its content gives %08x", *a.Sum, sum)
	}
	var s Saved
	if err == nil && len(a.Saved) > 0 {
		err = json.Unmarshal(a.Saved, &s)
	}
	if err != nil {
		return Saved{}, fmt.Errorf("reading the account: %w: %w", ErrDamaged, err)
	}
	return s, nil
}

// Save replaces the file in dir as a whole. It is not synced: after a power cut an older one is as true, since what was
// done here since then is then missing in accepted and local alike. An account that has not changed is not written again. Callers take turns.
func (l *Ledger) Save(dir string, c status.Counts) error {
	a := account{Saved: l.Saved(), Counts: c}
	if l.written != nil && reflect.DeepEqual(*l.written, a) {
		return nil
	}
	raw, err := json.Marshal(a.Saved)
	if err == nil {
		sum := crc32.ChecksumIEEE(raw)
		err = replace(filepath.Join(dir, ledgerFile), sealed{raw, &sum, c})
	}
	if err != nil {
		return fmt.Errorf("saving the account: %w", err)
	}
	l.written = &a
	return nil
}

// replace writes the content as JSON to a file of its own that then takes the name.
func replace(path string, content any) error {
	raw, err := json.Marshal(content)
	if err == nil {
		err = os.WriteFile(path+".tmp", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	return err
}
