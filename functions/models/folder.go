package models

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// read returns the versions in the folder, oldest first, and the problems of folders that are not versions. MaxModels bounds its work.
func (s *Store) read() (map[string][]*version, []problem, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	most := (s.cfg.MaxModels + 1) * maxVersions
	entries, err := d.ReadDir(most + 1)
	opened, statErr := d.Stat()
	if err = errors.Join(eofless(err), statErr, d.Close()); err != nil {
		return nil, nil, err
	}
	var problems []problem
	if now, err := os.Stat(s.root.Name()); err != nil || !os.SameFile(opened, now) {
		problems = append(problems, problem{"", fmt.Errorf("%s was removed, moved or replaced; start the program again", s.root.Name())})
	}
	if len(entries) > most {
		problems = append(problems, problem{"", fmt.Errorf("more than %d entries, the others are not read", most)})
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { // links last: the folder of a version takes precedence over links to it
		return cmp.Or(cmp.Compare(a.Type()&fs.ModeSymlink, b.Type()&fs.ModeSymlink), strings.Compare(a.Name(), b.Name()))
	})
	found := map[string][]*version{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !s.folder(e) {
			continue
		}
		v, err := s.readVersion(e.Name())
		if err == nil && v.Variant != s.cfg.Variant {
			continue
		}
		if err == nil {
			err = add(found, v, s.cfg.MaxModels)
		}
		if err != nil {
			problems = append(problems, problem{e.Name(), err})
		}
	}
	return found, problems, nil
}

// problem is the reason why a folder is not a version of a model, or a problem of the whole folder of models.
type problem struct {
	folder string
	err    error
}

func (p problem) String() string {
	if p.folder == "" {
		return p.err.Error()
	}
	return fmt.Sprintf("%.128s: %v", p.folder, p.err)
}

func texts(problems []problem) (list []string) {
	for _, p := range problems {
		list = append(list, p.String())
	}
	return list
}

// folder reports whether an entry may be a version: a folder, a link to a folder, or a broken link or a link out of the store, which is then reported
// as a problem.
func (s *Store) folder(e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := s.root.Stat(e.Name())
	return err != nil || info.IsDir()
}

func eofless(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func add(found map[string][]*version, v *version, most int) error {
	list, known := found[v.Name]
	if !known && len(found) >= most {
		return fmt.Errorf("there are more than %d models; raise MaxModels", most)
	}
	if len(list) >= maxVersions {
		return fmt.Errorf("model %s has more than %d versions; remove old ones", v.Name, maxVersions)
	}
	at, twice := slices.BinarySearchFunc(list, v, func(a, b *version) int { return a.Version.Compare(b.Version) })
	if twice {
		return fmt.Errorf("version %s of model %s is already in the folder %s", v.Version, v.Name, list[at].folder)
	}
	found[v.Name] = slices.Insert(list, at, v)
	return nil
}

// readVersion reads and verifies the manifest of a folder. The model's file is read when the version is loaded.
func (s *Store) readVersion(folder string) (*version, error) {
	b, err := ReadFile(s.root, folder+"/"+ManifestFile, maxManifest)
	if err != nil {
		return nil, err
	}
	var signature []byte
	if s.trust.Required() {
		if signature, err = ReadFile(s.root, folder+"/"+SignatureFile, maxSignature); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	v, err := s.check(b, signature)
	if err != nil {
		return nil, err
	}
	v.folder = folder
	return v, nil
}

// check verifies a manifest and compares it with the limits of the store.
func (s *Store) check(manifest, signature []byte) (*version, error) {
	comment, err := s.trust.Verify(manifest, signature)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(manifest)
	if err != nil {
		return nil, brief(err)
	}
	if most := int64(s.cfg.MaxMiB) << 20; m.Size > most {
		return nil, fmt.Errorf("the file has %d bytes, at most %d are allowed; raise MaxMiB", m.Size, most)
	}
	digest := sha256.Sum256(manifest)
	return &version{Manifest: m, signed: comment, digest: hex.EncodeToString(digest[:])}, nil
}

// Accepts reports whether an install would be refused before its file is read: for its signature, variant or size, or because it is not newer than
// the newest version. It returns the manifest. The error for a version already in force or on trial is ErrInstalled.
func (s *Store) Accepts(manifest, signature []byte, rollback bool) (*Manifest, error) {
	v, err := s.check(manifest, signature)
	if err != nil {
		return nil, err
	}
	if v.Variant != s.cfg.Variant {
		return v.Manifest, fmt.Errorf("the variant of the model is %s, expected %s", v.Variant, s.cfg.Variant)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[v.Name]
	if m == nil && len(s.models) >= s.cfg.MaxModels {
		return v.Manifest, fmt.Errorf("there are already %d models; raise MaxModels", len(s.models))
	}
	if m == nil { // its folders may have been removed
		m = &model{newest: s.state[v.Name].Newest}
	}
	for _, have := range m.versions {
		if have.Version.Compare(v.Version) == 0 && have.digest != v.digest {
			return v.Manifest, fmt.Errorf("version %s of model %s is installed with another manifest; give a changed model a new version", v.Version, v.Name)
		}
		if have.digest == v.digest && (m.now != nil && m.now.digest == v.digest || s.onTrial(m, have)) {
			return v.Manifest, ErrInstalled
		}
	}
	if older := v.Version.Compare(m.newest) <= 0; older && !rollback {
		return v.Manifest, fmt.Errorf("model %s %s after %s: %w", v.Name, v.Version, m.newest, ErrOlder)
	} else if older && !s.Permits(signature, m.newest) {
		return v.Manifest, fmt.Errorf("model %s %s after %s: %w, with a signature that permits it: minisign -S -m %s -t rollback:%s",
			v.Name, v.Version, m.newest, ErrOlder, ManifestFile, m.newest)
	}
	return v.Manifest, nil
}

// Permits reports whether an older version with that verified signature may replace another one in a rollback.
func (s *Store) Permits(signature []byte, other Version) bool {
	return !s.trust.Required() || other.Compare(Rollback(signature)) <= 0
}

// ErrInstalled means that the version is already in force.
var ErrInstalled = errors.New("the version is already in force")

// staging is the folder in which a new version is assembled.
const staging = ".staging"

// Install moves a complete file, a path below Root, into the store with its manifest and signature, and puts the version in force. A version that
// cannot be loaded is removed, unless the failure passes, and the previous one stays in force. For each model, the version in force and the previous
// one are kept. For a version that is already in force, Install removes the file and returns nil.
func (s *Store) Install(ctx context.Context, manifest, signature []byte, file string, rollback bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	m, err := s.Accepts(manifest, signature, rollback)
	if errors.Is(err, ErrInstalled) {
		return s.root.RemoveAll(file)
	}
	if err != nil {
		return fmt.Errorf("installing a model: %w", err)
	}
	if holder := s.holder(m); holder != nil {
		return fmt.Errorf("installing model %s %s: the folder %s is used by model %s %s; rename it", m.Name, m.Version, holder.folder, holder.Name, holder.Version)
	}
	before := s.inForce(m.Name)
	if err := s.place(m, manifest, signature, file); err != nil {
		return fmt.Errorf("installing model %s %s: %w", m.Name, m.Version, err)
	}
	found, problems, err := s.read()
	if err != nil {
		return fmt.Errorf("installing model %s %s: %w", m.Name, m.Version, err)
	}
	if !slices.ContainsFunc(found[m.Name], func(v *version) bool { return v.Version.Compare(m.Version) == 0 }) {
		err := cmp.Or(about(m.Folder(), problems), errors.New("too many entries"))
		if Passing(err) {
			return fmt.Errorf("installing model %s %s: %w", m.Name, m.Version, err)
		}
		return errors.Join(fmt.Errorf("installing model %s %s: no room in the folder of models: %w", m.Name, m.Version, err), s.root.RemoveAll(m.Folder()))
	}
	s.adopt(found, problems)
	if err := s.use(ctx, m.Name, m.Version, rollback && s.Permits(signature, m.Version)); err != nil {
		if ctx.Err() == nil && !Passing(err) {
			s.remove(m.Name, m.Version)
		}
		return fmt.Errorf("installing: %w", err)
	}
	s.prune(m.Name, before, m.Version)
	return nil
}

// about returns the problem of a folder, or nil.
func about(folder string, problems []problem) error {
	for _, p := range problems {
		if p.folder == folder {
			return p.err
		}
	}
	return nil
}

// Passing reports whether an error may pass without a change of the model: a lack of disk space, descriptors or memory.
func Passing(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}, func(one error) bool { return errors.Is(err, one) })
}

// onTrial reports whether a version is a canary, or becomes one at the next scan. The caller holds the lock.
func (s *Store) onTrial(m *model, v *version) bool {
	return m.canary != nil && m.canary.digest == v.digest ||
		s.cfg.Canary && m.now != nil && m.failed != v.digest && v.Version.Compare(m.newest) > 0
}

// holder returns another version that uses the folder of a new version, nil if the folder is free.
func (s *Store) holder(m *Manifest) *version {
	v, err := s.readVersion(m.Folder())
	if err != nil || v.Name == m.Name && v.Variant == m.Variant && v.Version == m.Version {
		return nil
	}
	return v
}

func (s *Store) inForce(name string) Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[name]; m != nil && m.now != nil {
		return m.now.Version
	}
	return ""
}

// place creates the folder of a version. The folder gets its name once its content is durable.
func (s *Store) place(m *Manifest, manifest, signature []byte, file string) error {
	if err := s.root.RemoveAll(staging); err != nil {
		return err
	}
	if err := s.root.Mkdir(staging, 0o750); err != nil {
		return err
	}
	err := WriteFile(s.root, staging+"/"+ManifestFile, manifest)
	if err == nil && len(signature) > 0 {
		err = WriteFile(s.root, staging+"/"+SignatureFile, signature)
	}
	if err == nil {
		err = s.root.Rename(file, staging+"/"+m.File)
	}
	if err == nil {
		err = SyncDir(s.root, staging)
	}
	if err == nil {
		err = s.root.RemoveAll(m.Folder()) // left by an interrupted removal, or an old version that is installed again
	}
	if err == nil {
		err = s.root.Rename(staging, m.Folder())
	}
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(staging))
	}
	return SyncDir(s.root, ".")
}

// prune removes the versions of a model other than the one in force, the previous one and the new one, which is a canary or an evicted canary.
func (s *Store) prune(name string, before, came Version) {
	s.mu.Lock()
	var old []Version
	m := s.models[name]
	for _, v := range m.versions {
		if v.Version != m.now.Version && v.Version != before && v.Version != came {
			old = append(old, v.Version)
		}
	}
	s.mu.Unlock()
	for _, v := range old {
		s.remove(name, v)
	}
}

// remove deletes the folder of a version that is not in force.
func (s *Store) remove(name string, which Version) {
	s.mu.Lock()
	m := s.models[name]
	at := slices.IndexFunc(m.versions, func(v *version) bool { return v.Version == which && v != m.now })
	folder := ""
	if at >= 0 {
		folder = m.versions[at].folder
		m.versions = slices.Delete(slices.Clone(m.versions), at, at+1)
	}
	s.mu.Unlock()
	if folder == "" {
		return
	}
	if err := s.root.RemoveAll(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.mu.Lock()
		s.problems = append(s.problems, problem{folder, fmt.Errorf("removing an old version: %w", err)})
		s.mu.Unlock()
	}
}

// stateFile holds the version in force of each model across restarts.
const stateFile = "state.json"

// choice is the recorded choice of versions of a model.
type choice struct {
	Version Version `json:"version"` // in force
	Newest  Version `json:"newest"`  // ever in force; a version up to it returns only on request
}

// loadState reads the choices. An unreadable file is an error: an empty state would undo a rollback.
func loadState(root *os.Root) (map[string]choice, error) {
	state := map[string]choice{}
	b, err := ReadFile(root, stateFile, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	for _, c := range state {
		for _, v := range []Version{c.Version, c.Newest} {
			err = errors.Join(err, v.Check())
		}
	}
	if err == nil && state == nil {
		err = errors.New("it contains no object")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of the models: %w; remove it to put the newest version of each model in force", stateFile, err)
	}
	return state, nil
}

// WriteFile replaces a small file. A power cut leaves either the old file or the new one.
func WriteFile(root *os.Root, path string, b []byte) error {
	part := path + ".new"
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(part, path); err != nil {
		return err
	}
	return SyncDir(root, parent(path))
}

// SyncDir makes the entries of a folder durable.
func SyncDir(root *os.Root, path string) error {
	d, err := root.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "."
}
