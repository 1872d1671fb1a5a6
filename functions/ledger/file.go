package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"app-offload/functions/check"
	"app-offload/functions/status"
)

// ledgerFile keeps, beside the spool, the part of the account that the spool does not keep itself.
const ledgerFile = "ledger.json"

// account is the file's content. Counts are for those who look at it while the service is down.
type account struct {
	Saved  Saved         `json:"saved"`
	Counts status.Counts `json:"counts"`
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
	var a account
	if err := json.Unmarshal(raw, &a); err != nil {
		return Saved{}, fmt.Errorf("reading the account: %w: %w", ErrDamaged, err)
	}
	return a.Saved, nil
}

// Save replaces the file in dir as a whole. It is not synced: after a power cut an older one is as true, since what was
// done here since then is then missing in accepted and local alike. An account that has not changed is not written again. Callers take turns.
func (l *Ledger) Save(dir string, c status.Counts) error {
	a := account{Saved: l.Saved(), Counts: c}
	if l.written != nil && reflect.DeepEqual(*l.written, a) {
		return nil
	}
	if err := replace(filepath.Join(dir, ledgerFile), a); err != nil {
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
