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
	maxDamages    = 256 // kept in memory; the files are bounded by bytes
)

// Damages returns the damaged places found since the start, at most the latest 256.
func (s *Spool) Damages() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Damage(nil), s.damages...)
}

// setAside quarantines damaged bytes, as far as their limit allows, and reports them.
func (s *Spool) setAside(d Damage, b []byte) {
	d.Kept = s.keep(d, b)
	s.note(d)
}

// note records a damage and reports it.
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

// A failing disk may have thousands of damaged places. At most reportMost of them in reportEvery are reported one by one, the rest as a number.
const (
	reportMost  = 16
	reportEvery = time.Minute
)

// alone reports whether a damage gets a report of its own. The caller holds the lock.
func (s *Spool) alone(now time.Time) bool {
	if now.Sub(s.reportSince) >= reportEvery {
		s.reportSince, s.reported = now, 0
	}
	s.reported++
	if s.reported > reportMost {
		s.unreported++
	}
	return s.reported <= reportMost
}

// keep writes the bytes to a file of their own, after one line of JSON that describes them. The segment keeps the damage until it is deleted, so
// nothing is lost if the disk is full.
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

// asideAs returns the quarantine file for a name, with a number appended if the name is taken, and whether it already contains these bytes. After a
// loss of the state a segment's number, and so its name, may be used again.
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
	have, err := readUpTo(f, int64(len(b))+1)
	return err == nil && bytes.Equal(have, b)
}
