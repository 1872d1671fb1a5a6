package desk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"app-offload/functions/check"
)

// maxSeen is how many answers each of the two files remembers: together some 1.3 MB, and in memory 4 MB at most.
const maxSeen = 1 << 15

// seen remembers which answers were published, over restarts. It appends to the younger of two files; when that is full the older one is
// emptied and takes its turn. An entry is an id and its CRC-32: what a kill or a power cut left of the last one is skipped. Nothing is
// synced, so a power cut may take the latest entries. It belongs to one goroutine.
type seen struct {
	dir        string
	most       int
	file       *os.File // the younger one; nil before the first entry
	name       int      // its number, 0 or 1
	young, old map[uuid.UUID]struct{}
}

const entrySize = idSize + 4

func (s *seen) path(n int) string { return filepath.Join(s.dir, fmt.Sprintf("answers-%d", n)) }

func openSeen(dir string, most int) (*seen, error) {
	s := &seen{dir: dir, most: most}
	var sets [2]map[uuid.UUID]struct{}
	for n := range sets {
		var err error
		if sets[n], err = load(s.path(n), most); err != nil {
			return nil, fmt.Errorf("reading which answers were published: %w", check.Access(err))
		}
	}
	// A full file is the older one. Where neither is full the second one has just begun, or was never begun.
	s.young, s.old = sets[0], sets[1]
	if len(sets[0]) >= most || len(sets[1]) > 0 && len(sets[1]) < most {
		s.name, s.young, s.old = 1, sets[1], sets[0]
	}
	return s, nil
}

func load(path string, most int) (map[uuid.UUID]struct{}, error) {
	set := map[uuid.UUID]struct{}{}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err == nil && info.Size() > int64(2*most*entrySize) {
		return set, os.Remove(path) // it grew because it could not be emptied
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for ; len(b) >= entrySize; b = b[entrySize:] {
		if crc32.ChecksumIEEE(b[:idSize]) == binary.BigEndian.Uint32(b[idSize:]) {
			set[uuid.UUID(b[:idSize])] = struct{}{}
		}
	}
	return set, nil
}

func (s *seen) has(id uuid.UUID) bool {
	_, young := s.young[id]
	_, old := s.old[id]
	return young || old
}

// add remembers an id, on an error in memory only. A full file takes its turn at once: of two full ones a restart could not say which is
// the older.
func (s *seen) add(id uuid.UUID) error {
	s.young[id] = struct{}{}
	err := s.write(id)
	if len(s.young) >= s.most {
		err = errors.Join(err, s.turn())
	}
	return err
}

func (s *seen) write(id uuid.UUID) error {
	if s.file == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	entry := binary.BigEndian.AppendUint32(append(make([]byte, 0, entrySize), id[:]...), crc32.ChecksumIEEE(id[:]))
	if _, err := s.file.Write(entry); err != nil {
		return errors.Join(err, s.shut()) // opened anew, at a whole entry, for the next one
	}
	return nil
}

// open continues the younger file behind its last whole entry.
func (s *seen) open() error {
	f, err := os.OpenFile(s.path(s.name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return check.Access(err)
	}
	info, err := f.Stat()
	if err == nil {
		whole := info.Size() / int64(entrySize) * int64(entrySize)
		if err = f.Truncate(whole); err == nil {
			_, err = f.Seek(whole, 0)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// turn empties the older file and makes it the younger one.
func (s *seen) turn() error {
	s.name, s.young, s.old = 1-s.name, map[uuid.UUID]struct{}{}, s.young
	err := s.shut()
	if gone := os.Remove(s.path(s.name)); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

func (s *seen) shut() error {
	f := s.file
	if s.file = nil; f == nil {
		return nil
	}
	return f.Close()
}

func (s *seen) close() error { return s.shut() }
