package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// dropsFile keeps, beside the spool, when tasks were dropped and which of that somebody has acknowledged.
const dropsFile = "drops.json"

// Drops remembers when tasks were dropped, and of how many somebody knows. It is safe for concurrent use.
type Drops struct {
	path string
	wall func() time.Time // the time of day

	mu    sync.Mutex
	list  []dropEntry
	dirty bool
}

// dropEntry is what the file has of a drop.
type dropEntry struct {
	status.Drop
	Early uint64 `json:"early,omitempty"` // of Count, before they reached the spool, which does not count them
}

// OpenDrops reads what an earlier run noted. A file that is damaged makes all drops unacknowledged: that way errs on the safe side.
func OpenDrops(dir string) (*Drops, error) {
	d := &Drops{path: filepath.Join(dir, dropsFile), wall: time.Now}
	raw, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the drops: %w", check.Access(err))
	}
	read := unseal
	if bytes.HasPrefix(raw, []byte("[")) { // by an earlier version, without a checksum
		read = json.Unmarshal
	}
	if err := read(raw, &d.list); err != nil {
		d.list = nil
		return d, fmt.Errorf("reading %s: %w: %w", d.path, ErrDamaged, err)
	}
	return d, nil
}

// See takes the spool's present counts, by class and reason. At the first look there is no telling when what is new to it was dropped.
func (d *Drops) See(counts map[string]map[string]uint64, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for class, reasons := range counts {
		for reason, n := range reasons {
			e := d.entry(class, reason)
			if n < e.Count-e.Early { // the spool began anew
				*e = dropEntry{Drop: status.Drop{Class: class, Reason: reason}}
				d.dirty = true
			}
			if more := n - (e.Count - e.Early); more > 0 {
				d.note(e, more, !first)
			}
		}
	}
}

// Early notes a task that was dropped before it reached the spool.
func (d *Drops) Early(class, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entry(class, reason)
	e.Early++
	d.note(e, 1, true)
}

// note counts n more, now if timed. The lock is held.
func (d *Drops) note(e *dropEntry, n uint64, timed bool) {
	if timed {
		now := d.wall().Round(0).Truncate(time.Second)
		if e.Last = &now; e.Unacknowledged == 0 {
			e.First = &now
		}
	}
	e.Count += n
	e.Unacknowledged += n
	d.dirty = true
}

// entry finds or adds the entry of a class and reason. The lock is held.
func (d *Drops) entry(class, reason string) *dropEntry {
	for i := range d.list {
		if d.list[i].Class == class && d.list[i].Reason == reason {
			return &d.list[i]
		}
	}
	d.list = append(d.list, dropEntry{Drop: status.Drop{Class: class, Reason: reason}})
	return &d.list[len(d.list)-1]
}

// Acknowledge says that somebody knows of all that was dropped so far, and returns how many tasks that newly were.
func (d *Drops) Acknowledge() (n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.list {
		e := &d.list[i]
		n += e.Unacknowledged
		e.Unacknowledged, e.First, e.Last = 0, nil, nil
	}
	d.dirty = d.dirty || n > 0
	return n
}

// Status is the list, what is unacknowledged and latest first.
func (d *Drops) Status() status.DropStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := status.DropStatus{List: []status.Drop{}}
	for _, e := range d.list {
		st.Unacknowledged += e.Unacknowledged
		st.List = append(st.List, e.Drop)
	}
	slices.SortFunc(st.List, func(a, b status.Drop) int {
		return cmp.Or(compareTimes(b.Last, a.Last), cmp.Compare(b.Unacknowledged, a.Unacknowledged), cmp.Compare(a.Class+" "+a.Reason, b.Class+" "+b.Reason))
	})
	return st
}

// compareTimes puts an unknown time before every other.
func compareTimes(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return a.Compare(*b)
}

// Save replaces the file as a whole where something has changed. It is not synced: after a power cut an older one only says that
// somebody should look again.
func (d *Drops) Save() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return nil
	}
	if err := replace(d.path, d.list, nil); err != nil {
		return fmt.Errorf("saving the drops: %w", err)
	}
	d.dirty = false
	return nil
}

// DroppedByClass leaves out the classes of which nothing was dropped, and what was done here after all.
func DroppedByClass(classes map[string]spool.ClassStats) map[string]map[string]uint64 {
	dropped := map[string]map[string]uint64{}
	for name, c := range classes {
		if delete(c.Dropped, spool.ReasonHere); len(c.Dropped) > 0 {
			dropped[name] = c.Dropped
		}
	}
	return dropped
}
