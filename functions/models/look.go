package models

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/task"
)

// Look reads a store's folder for tools: it does not change the folder, and loads one version at a time. It belongs to one goroutine.
type Look struct {
	// Problems lists the folders that are not versions of a model.
	Problems []string
	s        *Store
	versions []*version
}

// Report describes one version.
type Report struct {
	Name     string  `json:"name"`
	Version  Version `json:"version"`
	Variant  string  `json:"variant"`
	Engine   string  `json:"engine"`
	Folder   string  `json:"folder"`
	InForce  bool    `json:"inForce"`          // as a store would decide, if the version loads
	Signed   string  `json:"signed,omitempty"` // trusted comment, if keys were given
	Bytes    int64   `json:"bytes"`            // memory with one session
	MACs     int64   `json:"macs"`
	Run      float64 `json:"runMicroseconds"`
	Resource string  `json:"resource,omitempty"`
	Input    string  `json:"input"`
	Output   string  `json:"output"`
	Problem  string  `json:"problem,omitempty"` // why the version cannot be loaded
}

// LookAt reads the manifests of both variants in a folder. It checks versions against the keys and limits of the configuration.
func LookAt(cfg Config) (*Look, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	trust, err := ParseTrust(cfg.Keys)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of models: %w", check.Access(err))
	}
	l := &Look{s: &Store{cfg: cfg, root: root, trust: trust}}
	if l.s.state, err = loadState(root); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	for _, l.s.cfg.Variant = range []string{Edge, Cloud} {
		found, problems, err := l.s.read()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading the folder of models: %w", check.Access(err)), root.Close())
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			l.versions = append(l.versions, found[name]...)
		}
		l.Problems = texts(problems) // the same for both variants
	}
	slices.SortStableFunc(l.versions, func(a, b *version) int { return cmp.Compare(a.Name, b.Name) })
	return l, nil
}

// Close closes the folder.
func (l *Look) Close() error { return l.s.root.Close() }

// inForce returns the version that a store of that variant would use: the chosen version, or else the newest.
func (l *Look) inForce(name, variant string) *version {
	var best *version
	for _, v := range l.versions {
		if v.Name != name || v.Variant != variant {
			continue
		}
		if chosen := l.s.state[name].Version; v.Version == chosen {
			return v
		}
		best = v // versions ascend
	}
	return best
}

// Reports loads and runs every version, one after the other.
func (l *Look) Reports() []Report {
	list := make([]Report, 0, len(l.versions))
	for _, v := range l.versions {
		r := Report{
			Name: v.Name, Version: v.Version, Variant: v.Variant, Engine: engineFor(v.Manifest, l.s.cfg.Runtime), Folder: v.folder, Signed: v.signed,
			InForce: l.inForce(v.Name, v.Variant) == v, Resource: v.Input.Resource, Input: v.Input.Kind, Output: v.Output.Kind,
		}
		if p, err := prepare(l.s.root, v, l.s.cfg.Runtime); err != nil {
			r.Problem = err.Error()
		} else {
			r.Bytes, r.MACs, r.Run = p.bytes, p.info.MACs, float64(p.took.Nanoseconds())/1e3
			p.close()
		}
		list = append(list, r)
	}
	return list
}

// Ask runs the version of a model in force on one task.
func (l *Look) Ask(name, variant string, t *task.Task) (Answer, error) {
	m, err := l.Model(name, variant)
	if err != nil {
		return Answer{}, err
	}
	defer m.Close()
	return m.Ask(t)
}

// Looked is one version of a model, loaded by a Look. It belongs to one goroutine.
type Looked struct {
	v       *version
	p       *program
	scratch scratch
}

// Model loads the version of a model in force. The caller must close it.
func (l *Look) Model(name, variant string) (*Looked, error) {
	v := l.inForce(name, variant)
	if v == nil {
		return nil, fmt.Errorf("model %.64q of the variant %.64q: %w", name, variant, ErrUnknown)
	}
	p, err := prepare(l.s.root, v, l.s.cfg.Runtime)
	if err != nil {
		return nil, fmt.Errorf("loading model %s %s: %w", v.Name, v.Version, err)
	}
	return &Looked{v: v, p: p}, nil
}

// Ask runs the model on a task.
func (m *Looked) Ask(t *task.Task) (Answer, error) {
	start := time.Now()
	a := Answer{Model: m.v.Name, Version: m.v.Version, Variant: m.v.Variant}
	if err := answer(&a, &Lease{Manifest: m.v.Manifest, Info: &m.p.info, Session: m.p.first}, t, &m.scratch); err != nil {
		return Answer{}, fmt.Errorf("running model %s %s: %w", m.v.Name, m.v.Version, err)
	}
	a.Took = time.Since(start)
	return a, nil
}

// Close releases the model's memory.
func (m *Looked) Close() {
	m.p.close()
}
