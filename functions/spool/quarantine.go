package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	quarantineDir = "quarantine"
	maxDamages    = 256 // remembered in memory; the files are bounded by bytes
)

// Damages lists the damaged places found since the start, the latest 256 of them.
func (s *Spool) Damages() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Damage(nil), s.damages...)
}

// setAside keeps damaged bytes, as far as the bound for them allows, and reports them.
func (s *Spool) setAside(d Damage, b []byte) {
	d.Kept = s.keep(d, b)
	s.note(d)
}

// note remembers a damage and reports it.
func (s *Spool) note(d Damage) {
	d.Found = time.Now()
	s.quarantined.Add(1)
	s.mu.Lock()
	if len(s.damages) >= maxDamages {
		s.damages = append(s.damages[:0], s.damages[1:]...)
	}
	s.damages = append(s.damages, d)
	fresh := s.alone(d.Found)
	s.mu.Unlock()
	if s.opts.problem == nil || !fresh {
		return
	}
	s.opts.problem(fmt.Errorf("spool segment %s is damaged at %d (record %d): %s; its bytes are in %q", d.File, d.Offset, d.Seq, d.Reason, d.Kept))
}

// A disk that goes bad may have thousands of damaged places. So many of them are told one by one in so much time, the others as a number.
const (
	tellMost  = 16
	tellEvery = time.Minute
)

// alone reports whether a damage gets a report of its own. The lock is held.
func (s *Spool) alone(now time.Time) bool {
	if now.Sub(s.tellSince) >= tellEvery {
		s.tellSince, s.told = now, 0
	}
	s.told++
	if s.told > tellMost {
		s.untold++
	}
	return s.told <= tellMost
}

// keep writes the bytes to a file of their own, behind one line of JSON that says what they are. The damage itself stays in the
// segment until that is deleted, so that nothing is lost if the disk is full now.
func (s *Spool) keep(d Damage, b []byte) string {
	if len(b) == 0 {
		return ""
	}
	line, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	b = append(append(line, '\n'), b...)
	name, there := s.asideAs(fmt.Sprintf("%s-%d.bad", d.File, d.Offset), b)
	if there {
		return name // by a start that ended before a state knew of it
	}
	s.mu.Lock()
	full := s.kept+int64(len(b)) > s.limits.quarantine
	if !full {
		s.kept += int64(len(b))
		s.disk += int64(len(b))
	}
	s.mu.Unlock()
	if full {
		return ""
	}
	if err := s.fs.MkdirAll(s.path(quarantineDir)); err != nil {
		return ""
	}
	if err := s.writeFile(s.path(name), b); err != nil {
		return ""
	}
	return name
}

// asideAs gives the file in the quarantine under this name, or under one with a number where that is taken, and whether it holds these bytes
// already. A segment's number, and so its name, may come again where the state was lost.
func (s *Spool) asideAs(name string, b []byte) (to string, there bool) {
	to = quarantineDir + "/" + name
	ext := path.Ext(name)
	for n := 2; s.exists(s.path(to)); n++ {
		if b != nil && s.holds(s.path(to), b) {
			return to, true
		}
		to = fmt.Sprintf("%s/%s-%d%s", quarantineDir, strings.TrimSuffix(name, ext), n, ext)
	}
	return to, false
}

func (s *Spool) holds(name string, b []byte) bool {
	f, err := s.fs.Open(name, false)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // read only: there is nothing to lose
	size, err := f.Size()
	if err != nil || size != int64(len(b)) {
		return false
	}
	have, err := readUpTo(f, size)
	return err == nil && bytes.Equal(have, b)
}
