package keys

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxKeyFile bounds the file of one key, in bytes.
const maxKeyFile = 4096

// How long a reading of the files is good for: when all goes well, and when a message names a key that is not there.
const (
	fresh  = 10 * time.Second
	missed = time.Second
)

// Files are the keys below one path, a folder or a file. A nil value holds no keys.
//
// A folder holds one key a file: the file's name without its extension is the key's id. The file "current", if there is one, holds
// the id to seal with; otherwise the last id in alphabetical order is current, so keys named by date rotate by themselves. A
// single file holds one "id key" a line, the last line being current. Keys are written as hex or base64 (or, in a file of
// their own, as the bare bytes) and are 16, 24 or 32 bytes long.
//
// What changes on disk is seen within seconds, so a rotation needs no restart. A bad entry is left out and reported; the key that it held before
// stays in use, and so does the previous current key where the new one is not good. Safe for concurrent use.
type Files struct {
	path   string
	report func(problem string)

	mu      sync.Mutex
	keys    map[string][]byte
	current string
	read    time.Time
	problem string // of the last reading
}

// LoadFiles reads the keys of a folder or file; there must be a current one. report is called when what is wrong with the others changes, "" being
// nothing, under a lock.
func LoadFiles(path string, report func(problem string)) (*Files, error) {
	f := &Files{path: path, report: report}
	if err := f.reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current is the key to seal with.
func (f *Files) Current() (string, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	return f.current, f.keys[f.current], nil
}

// Key finds a key by its id.
func (f *Files) Key(id string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	if key, ok := f.keys[id]; ok {
		return key, nil
	}
	f.refresh(missed)
	if key, ok := f.keys[id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s has no key %q", f.path, id)
}

// Problem is what was wrong when the files were last read, "" if nothing was. Good keys are in use meanwhile.
func (f *Files) Problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	return f.problem
}

// refresh reads again what is older than the age.
func (f *Files) refresh(age time.Duration) {
	if time.Since(f.read) >= age {
		_ = f.reload() // it is reported
	}
}

// reload takes over every good key. The error says why there is none to seal with; then no key is forgotten.
func (f *Files) reload() error {
	f.read = time.Now()
	var bad []error
	err := f.take(&bad)
	if err != nil {
		bad = append(bad, err)
	}
	problem := ""
	if len(bad) > 0 {
		problem = "reading the keys: " + strings.ReplaceAll(errors.Join(bad...).Error(), "\n", "; ")
	}
	if problem != f.problem {
		f.problem = problem
		if f.keys != nil {
			f.report(problem)
		}
	}
	if err != nil {
		return errors.New(problem)
	}
	return nil
}

func (f *Files) take(bad *[]error) error {
	entries, err := readEntries(f.path)
	if err != nil {
		return err
	}
	found, last, current, named := map[string][]byte{}, "", "", false
	for _, e := range entries {
		if e.current {
			if named, current = true, strings.TrimSpace(string(e.content)); e.err != nil {
				*bad = append(*bad, fmt.Errorf("%s: %w", e.where, e.err))
			}
			continue
		}
		key, err := e.key()
		if err != nil {
			*bad = append(*bad, fmt.Errorf("%s: %w", e.where, err))
			key = f.keys[e.id]
		}
		if key != nil {
			found[e.id], last = key, e.id
		}
	}
	if !named {
		current = last
	}
	switch {
	case found[current] != nil:
		f.keys, f.current = found, current
		return nil
	case len(entries) == 0:
		return fmt.Errorf("%s holds none; put each into a file named by its id, and the id to seal with into the file `current`", f.path)
	case len(found) == 0:
		return fmt.Errorf("%s holds no good one", f.path)
	case f.keys != nil: // new ones are good for opening
		maps.Copy(f.keys, found)
	}
	return fmt.Errorf("%s does not hold the current key %q as a good one", f.path, current)
}

// entry is a key before it is read.
type entry struct {
	id, where string
	content   []byte
	err       error
	current   bool // it holds the id to seal with
}

func (e *entry) key() ([]byte, error) {
	switch {
	case e.err != nil:
		return nil, e.err
	case !isID(e.id):
		return nil, errID
	}
	return parse(e.content)
}

// readEntries reads a folder, or a file of lines.
func readEntries(path string) ([]entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readFolder(path)
	}
	return readLines(path)
}

func readFolder(dir string) (entries []entry, err error) {
	files, err := os.ReadDir(dir) // in alphabetical order
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		path := filepath.Join(dir, file.Name())
		info, err := os.Stat(path)
		if strings.HasPrefix(file.Name(), ".") || err == nil && info.IsDir() {
			continue // orchestrators keep their own links and folders beside mounted secrets
		}
		e := entry{id: strings.TrimSuffix(file.Name(), filepath.Ext(file.Name())), where: path, err: err, current: file.Name() == "current"}
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			e.err = errors.New("must be a file")
		case info.Size() > maxKeyFile:
			e.err = fmt.Errorf("has %d bytes, a key at most %d", info.Size(), maxKeyFile)
		default:
			e.content, e.err = os.ReadFile(path)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func readLines(path string) (entries []entry, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		id, text, ok := strings.Cut(line, " ")
		e := entry{id: id, where: fmt.Sprintf("%s, line %d", path, i+1), content: []byte(text)}
		if !ok {
			e.id, e.err = "", errors.New("write the id, a space and the key") // the line may be a key without an id, which is not shown
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// parse reads hex before base64 before bare bytes; the error does not show what it was given.
func parse(content []byte) ([]byte, error) {
	if key, err := decodeKey(string(content)); err == nil || !fits(content) {
		return key, err
	}
	return content, nil
}
