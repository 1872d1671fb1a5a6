package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"app-offload/functions/atomicfile"
	"app-offload/functions/check"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// dropsFile is a file beside the spool with the times of drops and their acknowledgement.
const dropsFile = "drops.json"

// Drops records when tasks were dropped, and how many drops an operator has acknowledged. It is safe for concurrent use.
type Drops struct {
	path string
	wall func() time.Time // the time of day

	mu    sync.Mutex
	list  []dropEntry
	dirty bool
}

// dropEntry is the file's entry of a class and reason.
type dropEntry struct {
	status.Drop
	Early uint64 `json:"early,omitempty"` // the part of Count dropped before the spool, which does not count them
}

// OpenDrops loads the drops of an earlier run. A damaged file makes all drops unacknowledged, which is the safe direction.
func OpenDrops(dir string) (*Drops, error) {
	d := &Drops{path: filepath.Join(dir, dropsFile), wall: time.Now}
	raw, err := atomicfile.Read(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the drops: %w", check.Access(err))
	}
	read := unseal
	if bytes.HasPrefix(raw, []byte("[")) { // from an earlier version, without a checksum
		read = json.Unmarshal
	}
	if err := read(raw, &d.list); err != nil {
		d.list = nil
		return d, fmt.Errorf("reading %s: %w: %w", d.path, ErrDamaged, err)
	}
	return d, nil
}

// See updates the drops from the spool's counters, by class and reason. At the first call, the time of drops that are new to it is unknown.
func (d *Drops) See(counts map[string]map[string]uint64, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for class, reasons := range counts {
		for reason, n := range reasons {
			e := d.entry(class, reason)
			if n < e.Count-e.Early { // the spool was recreated
				*e = dropEntry{Drop: status.Drop{Class: class, Reason: reason}}
				d.dirty = true
			}
			if more := n - (e.Count - e.Early); more > 0 {
				d.note(e, more, !first)
			}
		}
	}
}

// Early records a task that was dropped before it reached the spool.
func (d *Drops) Early(class, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entry(class, reason)
	e.Early++
	d.note(e, 1, true)
}

// note counts n more drops, at the current time if timed. The caller holds the lock.
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

// entry returns the entry of a class and reason, and adds it if needed. The caller holds the lock.
func (d *Drops) entry(class, reason string) *dropEntry {
	for i := range d.list {
		if d.list[i].Class == class && d.list[i].Reason == reason {
			return &d.list[i]
		}
	}
	d.list = append(d.list, dropEntry{Drop: status.Drop{Class: class, Reason: reason}})
	return &d.list[len(d.list)-1]
}

// Acknowledge marks all drops so far as acknowledged by an operator, and returns how many were new.
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

// Status returns the list, unacknowledged and latest drops first.
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

// compareTimes orders an unknown time before every other.
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

// Save replaces the file if anything has changed. It does not sync: after a power cut an older file only makes drops unacknowledged again.
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

// DroppedByClass returns the drops by class. It omits classes without drops, and tasks processed locally after all.
func DroppedByClass(classes map[string]spool.ClassStats) map[string]map[string]uint64 {
	dropped := map[string]map[string]uint64{}
	for name, c := range classes {
		if delete(c.Dropped, spool.ReasonHere); len(c.Dropped) > 0 {
			dropped[name] = c.Dropped
		}
	}
	return dropped
}
