package feedback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"app-offload/functions/atomicfile"
	"app-offload/functions/check"
	"app-offload/functions/clock"
	"app-offload/functions/decide"
	"app-offload/functions/policy"
	"app-offload/functions/say"
	"app-offload/functions/status"
	"app-offload/functions/trial"
)

// learnedFile holds the learned state. An unreadable file is moved to badLearnedFile, which keeps only the latest.
const (
	learnedFile    = "learned.json"
	badLearnedFile = "learned.bad.json"
	learnedFormat  = "app-offload learned 1"
)

// maxLearned is the maximum size of the file read at a start: thousands of classes fit.
const maxLearned = 64 << 20

// sealed is the file: the state with a checksum, since flash that loses bits does not report it.
type sealed struct {
	Format string          `json:"format"`
	Sum    uint32          `json:"crc32"` // of State
	State  json.RawMessage `json:"state"`
}

// learnedState is the state that must survive a restart.
type learnedState struct {
	Saved     time.Time                  `json:"saved"`
	Policies  map[string]json.RawMessage `json:"policies"` // by name, as saved by each policy
	Estimates json.RawMessage            `json:"estimates"`
	Layout    string                     `json:"layout,omitempty"` // of statistics combined with those of other nodes
	Canary    *trial.CanaryCount         `json:"canary,omitempty"`
}

// learned saves the learned state at intervals and at the stop. It is safe for concurrent use.
type learned struct {
	path  string
	every time.Duration
	rules func() *decide.Rules

	mu      sync.Mutex
	closed  bool // another process may own the folder now
	saved   time.Time
	problem string
}

// open loads the learned state of an earlier run and passes it to the learners. A damaged file is moved aside and logged, and learning starts from
// zero. A file that exists but cannot be read is an error: it is not damaged, and must not be overwritten.
func (l *learned) open(log say.Logger) error {
	raw, err := readLearned(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return fmt.Errorf("reading the learned state: %w", check.Access(err))
	}
	var state learnedState
	if err == nil {
		err = unseal(raw, &state)
	}
	if err == nil {
		err = l.restore(&state)
	}
	if err == nil {
		return nil
	}
	aside := filepath.Join(filepath.Dir(l.path), badLearnedFile)
	if moved := os.Rename(l.path, aside); moved != nil {
		err = errors.Join(err, moved)
	}
	log.Warnf("cannot load the learned state, learning starts from zero: movedTo=%s error=%q", aside, err)
	return nil
}

var errTooLarge = errors.New("too large")

func readLearned(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxLearned {
		return nil, fmt.Errorf("%w: %s has %d bytes, the maximum is %d", errTooLarge, path, info.Size(), maxLearned)
	}
	return atomicfile.Read(path)
}

func unseal(raw []byte, state *learnedState) error {
	var s sealed
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("reading the file: %w", err)
	}
	if s.Format != learnedFormat {
		return fmt.Errorf("its format is %q; this program reads %q", s.Format, learnedFormat)
	}
	if sum := crc32.ChecksumIEEE(s.State); sum != s.Sum {
		return fmt.Errorf("checksum mismatch: stored %08x, computed %08x", s.Sum, sum)
	}
	if err := json.Unmarshal(s.State, state); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	return nil
}

// Teach restores a policy from a file with learned state.
func Teach(p policy.Policy, file []byte) error {
	var state learnedState
	if err := unseal(file, &state); err != nil {
		return err
	}
	l, ok := p.(policy.Learner)
	if !ok {
		return fmt.Errorf("policy %s does not learn, so it has no learned state", p.Name())
	}
	raw, ok := state.Policies[p.Name()]
	if !ok {
		return fmt.Errorf("no learned state of policy %s in the file", p.Name())
	}
	return l.Restore(raw)
}

// restore passes each learner its part. A rejected part does not affect the others.
func (l *learned) restore(state *learnedState) error {
	r := l.rules()
	var errs []error
	for _, p := range r.Learners() {
		if raw, ok := state.Policies[p.Name()]; ok {
			errs = append(errs, p.Restore(raw))
		}
	}
	if len(state.Estimates) > 0 {
		errs = append(errs, r.Model.Restore(state.Estimates))
	}
	if state.Layout != r.PoolLayout() {
		r.StatisticsAnew()
	}
	if state.Canary != nil {
		r.Restore(*state.Canary)
	}
	return errors.Join(errs...)
}

// save rewrites the file.
func (l *learned) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	raw, err := l.encode()
	if err == nil {
		err = atomicfile.Replace(l.path, raw)
	}
	l.problem = ""
	if err != nil {
		l.problem = err.Error()
		return fmt.Errorf("saving the learned state: %w", err)
	}
	l.saved = time.Now()
	return nil
}

func (l *learned) encode() ([]byte, error) {
	r := l.rules()
	state := learnedState{Saved: time.Now().UTC(), Layout: r.PoolLayout(), Policies: map[string]json.RawMessage{}}
	var err error
	for _, p := range r.Learners() {
		raw, e := p.Save()
		state.Policies[p.Name()], err = raw, errors.Join(err, e)
	}
	raw, e := r.Model.Save()
	state.Estimates, err = raw, errors.Join(err, e)
	if c, on := r.Canary(); on {
		state.Canary = &c
	}
	if err != nil {
		return nil, err
	}
	raw, err = json.Marshal(state)
	if err != nil {
		return nil, err
	}
	return json.Marshal(sealed{learnedFormat, crc32.ChecksumIEEE(raw), raw})
}

// run saves at intervals until ctx ends. It logs a problem once until it is over.
func (l *learned) run(ctx context.Context, log say.Logger) {
	tick := clock.NewTicker(l.every)
	defer tick.Stop()
	var once say.Once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.save(); once.Changed("save", err) {
			log.Warnf("saving the learned state failed: retryEvery=%v error=%q", l.every, err)
		}
	}
}

// close saves for the last time.
func (l *learned) close() error {
	err := l.save()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return err
}

func (l *learned) status() status.LearnedStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := status.LearnedStatus{Problem: l.problem}
	if !l.saved.IsZero() {
		s.Age = time.Since(l.saved).Seconds()
	}
	return s
}
