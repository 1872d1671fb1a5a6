package spool

import (
	"encoding/json"
	"fmt"
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
	name := fmt.Sprintf("%s/%s-%d.bad", quarantineDir, d.File, d.Offset)
	if err := s.fs.MkdirAll(s.path(quarantineDir)); err != nil {
		return ""
	}
	if err := s.writeFile(s.path(name), b); err != nil {
		return ""
	}
	return name
}
