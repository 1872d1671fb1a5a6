package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/clock"
	"app-offload/functions/models"
)

// Errors that callers branch on.
var (
	ErrNoOffer = errors.New("a chunk of a model that was not offered, or is complete")
	ErrGivenUp = errors.New("several downloads had a wrong digest")
)

// Config bounds a receiver. Zero values select the defaults.
type Config struct {
	Partials   int           // concurrent deliveries, 4; another one replaces the one that was idle longest
	Window     int           // chunks requested together, 32
	RetryAfter time.Duration // time without a chunk after which missing chunks are requested again, 10 s
	Tries      int           // downloads of one version with a wrong digest, 3
}

func (c Config) orDefault() Config {
	if c.Partials <= 0 {
		c.Partials = 4
	}
	if c.Window <= 0 {
		c.Window = 32
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = 10 * time.Second
	}
	if c.Tries <= 0 {
		c.Tries = 3
	}
	return c
}

// Receiver receives deliveries into a store. It uses disk for at most Partials files of the store's maximum size. It is safe for concurrent use.
// Handle of the last chunk of a file returns after the model was loaded.
type Receiver struct {
	cfg   Config
	store *models.Store
	clock *clock.Clock

	mu    sync.Mutex // held while a model is written, verified and loaded
	open  map[ID]*partial
	later *waiting                // the latest offer that failed for lack of disk space, descriptors or memory
	seen  atomic.Pointer[[]sight] // for Progress, which must not wait for mu
}

// waiting is an offer to retry later.
type waiting struct {
	offer    *Offer
	manifest *models.Manifest
}

// sight is the progress of a delivery, with the time of its last activity.
type sight struct {
	Progress
	active int64 // stamp
}

// show updates the state that Progress returns. The caller holds the lock, except in NewReceiver.
func (r *Receiver) show() {
	list := make([]sight, 0, len(r.open))
	for _, p := range r.open {
		list = append(list, sight{Progress{Name: p.manifest.Name, Version: p.manifest.Version, Have: p.got, Of: p.of}, p.active})
	}
	r.seen.Store(&list)
}

// NewReceiver resumes the deliveries of an earlier process. It removes deliveries that cannot be resumed.
func NewReceiver(store *models.Store, cfg Config, c *clock.Clock) (*Receiver, error) {
	r := &Receiver{cfg: cfg.orDefault(), store: store, clock: c.Or(), open: map[ID]*partial{}}
	defer r.show()
	d, err := store.Root().Open(incoming)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resuming deliveries of models: %w", check.Access(err))
	}
	names, err := d.Readdirnames(1000)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, fmt.Errorf("resuming deliveries of models: %w", err)
	}
	for _, name := range names {
		if r.resume(name) {
			continue
		}
		if err := store.Root().RemoveAll(incoming + "/" + name); err != nil {
			return nil, fmt.Errorf("removing a delivery that cannot be resumed: %w", err)
		}
	}
	return r, nil
}

// resume reports whether a folder is a delivery that was resumed.
func (r *Receiver) resume(name string) bool {
	msg, err := models.ReadFile(r.store.Root(), incoming+"/"+name+offerAt, maxOffer)
	if err != nil || len(r.open) >= r.cfg.Partials {
		return false
	}
	o, _, err := DecodeDown(msg)
	if err != nil || o == nil || o.ID().String() != name {
		return false
	}
	m, err := r.store.Accepts(o.Manifest, o.Signature, o.Rollback)
	if err != nil {
		return false
	}
	p := newPartial(r.store.Root(), o, m)
	if p.resume() != nil {
		_ = p.close()
		return false
	}
	p.active = r.clock.Now() - int64(r.cfg.RetryAfter) // due immediately
	r.open[p.id] = p
	return true
}

// Handle processes a message of the node's topic. A reply that is not nil must be published on WantTopic, even with an error: the error is for the
// log. An invalid message has no effect and no reply.
func (r *Receiver) Handle(ctx context.Context, msg []byte) (reply []byte, err error) {
	o, c, err := DecodeDown(msg)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.show()
	var w *Want
	if o != nil {
		w, err = r.offered(o)
	} else {
		w, err = r.chunk(ctx, c)
	}
	if w == nil {
		return nil, err
	}
	reply, encoding := w.Encode()
	return reply, errors.Join(err, encoding)
}

// offered begins a delivery, or requests the next chunks of a known one.
func (r *Receiver) offered(o *Offer) (*Want, error) {
	if p := r.open[o.ID()]; p != nil {
		p.active = r.clock.Now()
		return p.want(r.cfg.Window), nil
	}
	m, err := r.store.Accepts(o.Manifest, o.Signature, o.Rollback)
	if errors.Is(err, models.ErrInstalled) {
		of := parts(m, o.Chunk)
		return &Want{ID: o.ID(), State: Installed, Have: of, Of: of}, nil
	}
	if err == nil && parts(m, o.Chunk) > maxParts {
		err = fmt.Errorf("%d chunks, at most %d are allowed", parts(m, o.Chunk), maxParts)
	}
	if err == nil {
		err = r.newest(o, m)
	}
	if err != nil {
		return refusal(o.ID(), err), fmt.Errorf("refusing the offer of a model: %w", err)
	}
	if err := r.makeRoom(m); err != nil {
		return nil, err
	}
	if r.later != nil && r.later.manifest.Name == m.Name {
		r.later = nil
	}
	p, err := begin(r.store.Root(), o, m)
	if models.Passing(err) {
		r.later = &waiting{o, m}
	}
	if err != nil {
		return nil, fmt.Errorf("beginning the delivery of model %s %s: %w", m.Name, m.Version, check.Access(err))
	}
	p.active = r.clock.Now()
	r.open[p.id] = p
	return p.want(r.cfg.Window), nil
}

// newest returns an error if another delivery of the model, in progress or waiting to be retried, has the same or a newer version and the offer may
// not replace it.
func (r *Receiver) newest(o *Offer, m *models.Manifest) error {
	var others []*models.Manifest
	for _, p := range r.open {
		others = append(others, p.manifest)
	}
	if r.later != nil && r.later.offer.ID() != o.ID() {
		others = append(others, r.later.manifest)
	}
	for _, other := range others {
		if other.Name == m.Name && m.Version.Compare(other.Version) <= 0 && !(o.Rollback && r.store.Permits(o.Signature, other.Version)) {
			return fmt.Errorf("a delivery of version %s of model %s is in progress, which is not older than %s; to replace it, offer a rollback that the signature permits", other.Version, m.Name, m.Version)
		}
	}
	return nil
}

// makeRoom ends deliveries of the same model, and, if there are too many deliveries, the one that was idle longest.
func (r *Receiver) makeRoom(m *models.Manifest) error {
	for _, p := range r.open {
		if p.manifest.Name == m.Name {
			if err := r.end(p); err != nil {
				return err
			}
		}
	}
	for len(r.open) >= r.cfg.Partials {
		var idlest *partial
		for _, p := range r.open {
			if idlest == nil || p.active < idlest.active {
				idlest = p
			}
		}
		if err := r.end(idlest); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receiver) end(p *partial) error {
	delete(r.open, p.id)
	if err := p.remove(); err != nil {
		return fmt.Errorf("removing the delivery of model %s %s: %w", p.manifest.Name, p.manifest.Version, err)
	}
	return nil
}

func refusal(id ID, err error) *Want { return &Want{ID: id, State: Refused, Reason: err.Error()} }

// chunk stores a chunk, requests the next chunks once all requested ones have arrived, and installs the complete file.
func (r *Receiver) chunk(ctx context.Context, c *Chunk) (*Want, error) {
	p := r.open[c.ID]
	if p == nil {
		return nil, ErrNoOffer
	}
	before := p.got
	if err := p.add(c); err != nil {
		return nil, fmt.Errorf("model %s %s: %w", p.manifest.Name, p.manifest.Version, err)
	}
	if p.got == before {
		return nil, nil //nolint:nilnil // repeated
	}
	p.active = r.clock.Now()
	switch {
	case p.got == p.of:
		r.show()
		return r.complete(ctx, p)
	case p.wanted == 0:
		return p.want(r.cfg.Window), nil
	}
	return nil, nil //nolint:nilnil // more chunks are expected
}

// complete verifies the file and passes it to the store, which verifies the signature again.
func (r *Receiver) complete(ctx context.Context, p *partial) (*Want, error) {
	err := p.verify()
	if errors.Is(err, errDigest) && p.tries+1 < r.cfg.Tries {
		err = errors.Join(err, p.restart())
		return p.want(r.cfg.Window), err
	}
	if errors.Is(err, errDigest) {
		err = errors.Join(ErrGivenUp, err)
	}
	if err == nil {
		err = r.store.Install(ctx, p.offer.Manifest, p.offer.Signature, p.dir+partAt, p.offer.Rollback)
	}
	if models.Passing(err) && p.there() { // Due retries
		return nil, fmt.Errorf("delivery of model %s %s is complete, the installation is retried: %w", p.manifest.Name, p.manifest.Version, err)
	}
	ended := r.end(p)
	if err != nil && (ctx.Err() != nil || models.Passing(err)) {
		return nil, errors.Join(err, ended) // the store loads the version at its next opening or scan
	}
	if err != nil {
		return refusal(p.id, err), errors.Join(fmt.Errorf("delivery of model %s %s: %w", p.manifest.Name, p.manifest.Version, err), ended)
	}
	return &Want{ID: p.id, State: Installed, Have: p.of, Of: p.of}, ended
}

// Due retries steps that failed for lack of disk space, descriptors or memory, and repeats requests after a time without chunks. Call it every few
// seconds. The replies must be published even with an error: the error is for the log.
func (r *Receiver) Due(ctx context.Context) (replies [][]byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.show()
	add := func(w *Want, problem error) {
		err = errors.Join(err, problem)
		if w == nil {
			return
		}
		msg, problem := w.Encode()
		if err = errors.Join(err, problem); problem == nil {
			replies = append(replies, msg)
		}
	}
	for _, p := range r.open {
		if r.clock.Since(p.active) < r.cfg.RetryAfter {
			continue
		}
		if p.active = r.clock.Now(); p.got == p.of {
			add(r.complete(ctx, p))
		} else {
			add(p.want(r.cfg.Window), nil)
		}
	}
	if r.later != nil {
		add(r.offered(r.later.offer))
	}
	return replies, err
}

// Progress is the progress of a delivery.
type Progress struct {
	Name    string         `json:"name"`
	Version models.Version `json:"version"`
	Have    int            `json:"have"` // chunks
	Of      int            `json:"of"`
	Idle    time.Duration  `json:"idle"`
}

// Progress returns the deliveries in progress. It does not wait for a model that is being loaded.
func (r *Receiver) Progress() []Progress {
	seen := *r.seen.Load()
	list := make([]Progress, len(seen))
	for i, one := range seen {
		list[i] = one.Progress
		list[i].Idle = r.clock.Since(one.active)
	}
	return list
}

// Close saves the received chunks for the next start.
func (r *Receiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for _, p := range r.open {
		err = errors.Join(err, p.sync(), p.close())
	}
	clear(r.open)
	r.show()
	return err
}
