package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/pool"
	"app-offload/functions/seal"
)

// Terms are the rules by which a fleet combines the statistics of its nodes.
type Terms struct {
	Least   int           // minimum number of other nodes behind each part that a node is sent, 2 or more
	Clip    float64       // norm of each part of a contribution, and so the largest change by one node
	Every   time.Duration // length of a round; contributions that arrive during it count in the next one
	MaxAge  time.Duration // age after which a contribution no longer counts
	Epsilon float64       // of the noise of a round, below 1; 0 adds none
	Delta   float64
}

// DefaultTerms add no noise.
func DefaultTerms() Terms {
	return Terms{Least: 3, Clip: 20, Every: time.Minute, MaxAge: 7 * 24 * time.Hour, Delta: 1e-6}
}

// Validate reports every problem, not only the first. The bound on ε is that of the analysis of the noise.
func (t Terms) Validate() error {
	p := check.In("federate")
	check.Range(p, "least", t.Least, 2, 10_000)
	check.Range(p, "clip", t.Clip, 1, 1e6)
	check.Range(p, "every", t.Every, time.Second, 24*time.Hour)
	check.Range(p, "max-age", t.MaxAge, time.Minute, 366*24*time.Hour)
	check.Range(p, "epsilon", t.Epsilon, 0, 0.999)
	check.Range(p, "delta", t.Delta, 1e-12, 0.1)
	return p.Err()
}

// Deviation returns the standard deviation of the noise on each number if so many parts are published: that of the Gaussian mechanism for a function
// that one contribution changes by clip·√parts in the Euclidean norm, √(2·ln(1.25/δ))·Δ/ε (Dwork and Roth, The Algorithmic Foundations of
// Differential Privacy, 2014, theorem 3.22). It is 0 without noise.
func (t Terms) Deviation(parts int) float64 {
	if t.Epsilon == 0 {
		return 0
	}
	return t.Clip * math.Sqrt(float64(parts)) * math.Sqrt(2*math.Log(1.25/t.Delta)) / t.Epsilon
}

// maxNodes bounds the memory of a fleet.
const maxNodes = 10_000

// contribution is the latest statement of a node. It is immutable.
type contribution struct {
	Stamp  int64      `json:"stamp"` // by the node's clock
	At     time.Time  `json:"at"`    // by the cloud's
	Layout string     `json:"layout"`
	Parts  pool.Parts `json:"parts"` // clipped
}

// Fleet adds up the statistics of nodes. It does no I/O. All methods are safe for concurrent use.
type Fleet struct {
	terms  Terms
	sealer *seal.Sealer
	opener *seal.Opener

	mu      sync.Mutex
	latest  map[string]*contribution // by node
	round   map[string]*contribution // of the current round
	began   time.Time
	seed    [32]byte // of the round's noise
	sent    int64    // stamp of the latest answer
	taken   uint64
	refused map[string]uint64 // by reason
}

// New returns a fleet without nodes. The terms must be valid.
func New(t Terms, sealer *seal.Sealer, opener *seal.Opener) *Fleet {
	return &Fleet{terms: t, sealer: sealer, opener: opener, latest: map[string]*contribution{}, refused: map[string]uint64{}}
}

// Handle accepts a message from a node's topic and returns the answer for that node. The error is *Refused; the answer to a replay names the latest
// statement, so that a node whose clock was set back can continue.
func (f *Fleet) Handle(node string, message []byte, now time.Time) (answer []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	refused := f.take(node, message, now)
	if refused != nil {
		f.refused[refused.Reason]++
		if refused.Reason != replayed {
			return nil, refused
		}
		err = refused
	} else {
		f.taken++
	}
	f.begin(now)
	st := f.answer(node)
	f.sent = max(now.UnixNano(), f.sent+1)
	st.stamp = f.sent
	answer, sealing := encode(f.sealer, seal.Fleet, node, st)
	if sealing != nil {
		return nil, sealing
	}
	return answer, err
}

// TooLarge refuses a message that was too large to be read.
func (f *Fleet) TooLarge(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	refused := refuse("too large", "the message has %d bytes, at most %d are allowed", size, MaxMessage)
	f.refused[refused.Reason]++
	return refused
}

const replayed = "replayed"

func (f *Fleet) take(node string, message []byte, now time.Time) *Refused {
	st, refused := decode(f.opener, seal.Learned, node, message)
	if refused != nil {
		return refused
	}
	before := f.latest[node]
	if before != nil && st.stamp <= before.Stamp {
		return refuse(replayed, "a statement of node %.64q that is as recent was accepted before", node)
	}
	if before == nil && len(f.latest) >= maxNodes {
		f.forget(f.latest, now)
	}
	if before == nil && len(f.latest) >= maxNodes {
		return refuse("full", "%d nodes take part already", len(f.latest))
	}
	f.latest[node] = &contribution{st.stamp, now, st.Layout, st.Parts.Clip(f.terms.Clip)}
	return nil
}

// begin begins a round when one is due.
func (f *Fleet) begin(now time.Time) {
	if f.round != nil && now.Sub(f.began) < f.terms.Every && !now.Before(f.began) {
		return
	}
	f.round, f.began = maps.Clone(f.latest), now
	f.forget(f.round, now)
	_, _ = rand.Read(f.seed[:]) // it never fails
}

// forget removes contributions that are too old to count.
func (f *Fleet) forget(nodes map[string]*contribution, now time.Time) {
	maps.DeleteFunc(nodes, func(_ string, c *contribution) bool { return now.Sub(c.At) > f.terms.MaxAge })
}

// answer returns the sum of the other nodes of the same layout, for a node with a statement.
func (f *Fleet) answer(node string) *statement {
	own := f.latest[node]
	st := &statement{Layout: own.Layout, Last: own.Stamp}
	sum, from, published := pool.Parts{}, map[string]int{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.round)) { // for sums of identical bits
		c := f.round[name]
		if c.Layout != own.Layout {
			continue
		}
		for part := range c.Parts {
			published[part] = true
		}
		if name == node || len(c.Parts) == 0 {
			continue
		}
		st.Nodes++
		sum.Add(c.Parts)
		for part := range c.Parts {
			from[part]++
		}
	}
	maps.DeleteFunc(sum, func(part string, _ pool.Part) bool { return from[part] < f.terms.Least })
	if d := f.terms.Deviation(len(published)); d > 0 {
		sum.Noise(d, f.noise(own.Layout))
	}
	for len(sum) > pool.MaxParts { // nodes have different classes
		delete(sum, slices.Max(slices.Collect(maps.Keys(sum))))
	}
	st.Parts = sum
	return st
}

// noise draws for a part of a layout, the same for all nodes of a round: nodes that combine their answers learn no more than one of them.
func (f *Fleet) noise(layout string) func(part string) func() float64 {
	return func(part string) func() float64 {
		seed := sha256.Sum256([]byte(string(f.seed[:]) + layout + "\x00" + part))
		return mathrand.New(mathrand.NewChaCha8(seed)).NormFloat64
	}
}

// Counts are the counts since the start.
type Counts struct {
	Nodes   int               // currently taking part
	Taken   uint64            // statements
	Refused map[string]uint64 // statements, by reason
}

// Counts returns the current counts.
func (f *Fleet) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Counts{len(f.latest), f.taken, maps.Clone(f.refused)}
}

const stateFormat = "app-offload fleet 1"

type state struct {
	Format string                   `json:"format"`
	Nodes  map[string]*contribution `json:"nodes"`
}

// Save returns the contributions, so that after a restart they are not lost, and older ones are not accepted again.
func (f *Fleet) Save() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return json.Marshal(state{stateFormat, f.latest})
}

// Restore restores a state that Save returned. On error it changes nothing.
func (f *Fleet) Restore(raw []byte) error {
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("reading the state of a fleet: %w", err)
	}
	if s.Format != stateFormat || len(s.Nodes) > maxNodes {
		return fmt.Errorf("reading the state of a fleet: its format is %.64q with %d nodes; this program reads %q", s.Format, len(s.Nodes), stateFormat)
	}
	for node, c := range s.Nodes {
		if c == nil || c.Layout == "" || node == "" {
			return fmt.Errorf("reading the state of a fleet: node %.64q has no contribution", node)
		}
		if err := c.Parts.Check(); err != nil {
			return fmt.Errorf("reading the state of a fleet: node %.64q: %w", node, err)
		}
		c.Parts = c.Parts.Clip(f.terms.Clip)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest = maps.Collect(maps.All(s.Nodes)) // not nil where it has none
	return nil
}
