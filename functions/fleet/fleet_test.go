package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/pool"
	"app-offload/functions/seal"
)

// ring is a set of keys of which one seals.
type ring struct {
	current string
	keys    map[string][]byte
}

func (r ring) Current() (string, []byte, error) { return r.current, r.keys[r.current], nil }

func (r ring) Key(id string) ([]byte, error) {
	if key, ok := r.keys[id]; ok {
		return key, nil
	}
	return nil, nil
}

func ringOf(current string, fill byte) ring {
	key := make([]byte, 32)
	key[0] = fill
	return ring{current, map[string][]byte{current: key}}
}

func codecs(t testing.TB, keys seal.Keys) (*seal.Sealer, *seal.Opener) {
	s, err := seal.NewSealer(seal.DefaultConfig(), keys)
	require.NoError(t, err)
	return s, seal.NewOpener(keys, seal.Limits{})
}

var plant = ringOf("k1", 1)

func newFleet(t testing.TB, edits ...func(*Terms)) *Fleet {
	terms := DefaultTerms()
	for _, edit := range edits {
		edit(&terms)
	}
	require.NoError(t, terms.Validate())
	s, o := codecs(t, plant)
	return New(terms, s, o)
}

// learner is a node's that has seen so many outcomes of class a with that mean.
type learner struct {
	layout string
	own    pool.Parts
	prior  pool.Parts
}

func (l *learner) Layout() string              { return l.layout }
func (l *learner) Statistics(int64) pool.Parts { return l.own }
func (l *learner) Prior(p pool.Parts)          { l.prior = p }

func saw(count, mean float64) pool.Parts {
	return pool.Parts{pool.Cloud + "a": {Matrix: []float64{count}, Moments: []float64{count * mean}}}
}

// node is a member whose messages go directly to a fleet, and the answers directly back.
type node struct {
	*Member
	learner learner
	errs    []error
	sent    [][]byte
	answers [][]byte
}

func join(t testing.TB, f *Fleet, name string, now *time.Time, own pool.Parts) *node {
	n := &node{learner: learner{layout: "1", own: own}}
	s, o := codecs(t, plant)
	n.Member = NewMember(name, s, o, &n.learner, func(topic string, message []byte) {
		require.Equal(t, seal.LearnedTopic(name), topic)
		n.sent = append(n.sent, message)
		answer, err := f.Handle(name, message, *now)
		n.errs = append(n.errs, err)
		n.answers = append(n.answers, answer)
	}, silent{})
	c := DefaultConfig()
	c.Interval = "1m"
	require.NoError(t, c.Validate())
	n.Set(c)
	return n
}

// speak lets a node send its statement and receive the answer.
func (n *node) speak(now time.Time) {
	n.Tick(now)
	if answer := n.answers[len(n.answers)-1]; answer != nil {
		n.Take(answer)
	}
}

type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// A newcomer receives the exact sum of the other nodes' statistics, weighed; a contributor receives that of the others without its own.
func TestANodeIsToldWhatTheOthersHaveLearned(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	var nodes []*node
	for i, mean := range []float64{0.1, 0.2, 0.3, 0.4} {
		n := join(t, f, fmt.Sprint("n", i), &now, saw(15, mean))
		n.speak(now)
		nodes = append(nodes, n)
	}
	require.Empty(t, nodes[3].learner.prior, "in the first round there is nothing yet")
	now = now.Add(2 * time.Minute)
	fresh := join(t, f, "fresh", &now, nil)
	fresh.speak(now)
	got := fresh.learner.prior[pool.Cloud+"a"]
	require.InDelta(t, 20, got.Weight(), 1e-9)
	require.InDelta(t, 0.25, got.Moments[0]/got.Weight(), 1e-12)
	require.Equal(t, 4, fresh.Status().Nodes)
	nodes[0].speak(now)
	got = nodes[0].learner.prior[pool.Cloud+"a"]
	require.InDelta(t, 0.3, got.Moments[0]/got.Weight(), 1e-12, "without its own")
	fresh.Tick(now.Add(time.Hour))
	fresh.Set(DefaultConfig())
	require.Nil(t, fresh.learner.prior, "who takes no part believes nothing")
	require.Nil(t, fresh.Status())
	c := DefaultConfig()
	c.Interval = "1m"
	fresh.Set(c)
	fresh.Take(fresh.answers[1])
	require.Contains(t, fresh.Status().Problem, "replayed", "what was asked before counts no more")
	require.Nil(t, fresh.learner.prior)
}

// A part with fewer than the least number of other contributors is sent to no node; other layouts and old contributions do not count.
func TestFewNodesAreNotTold(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	join(t, f, "n1", &now, saw(15, 1)).speak(now)
	join(t, f, "n2", &now, saw(15, 1)).speak(now)
	lone := saw(15, 1)
	lone[pool.Cloud+"secret"] = pool.Part{Matrix: []float64{15}, Moments: []float64{1}}
	join(t, f, "n3", &now, lone).speak(now)
	other := join(t, f, "n4", &now, saw(15, 1))
	other.learner.layout = "2"
	other.speak(now)
	now = now.Add(2 * time.Minute)
	fresh := join(t, f, "fresh", &now, nil)
	fresh.speak(now)
	require.Len(t, fresh.learner.prior, 1)
	require.Contains(t, fresh.learner.prior, pool.Cloud+"a")
	other.speak(now)
	require.Empty(t, other.learner.prior, "alone with its layout")
	now = now.Add(8 * 24 * time.Hour)
	fresh.speak(now)
	require.Empty(t, fresh.learner.prior, "those who were silent for long are gone")
}

// Invalid statements are refused, counted and named, and change nothing.
func TestBrokenAndHostileStatementsAreRefused(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	n.speak(now)
	s, _ := codecs(t, plant)
	stranger, _ := codecs(t, ringOf("k2", 2))
	liar, _ := codecs(t, ringOf("k1", 9))
	body := func(s *seal.Sealer, node, text string, at int64) []byte {
		msg, err := s.SealNote(nil, &seal.Note{Kind: seal.Learned, ID: "1", Node: node, Created: time.Unix(at, 0), Body: json.RawMessage(text)})
		require.NoError(t, err)
		return msg
	}
	good := `{"layout":"1","parts":{"cloud/a":{"matrix":[9],"moments":[1]}}}`
	part := func(matrix, moments string) string {
		return `{"layout":"1","parts":{"local/a":{"matrix":[` + matrix + `],"moments":[` + moments + `]}}}`
	}
	before, err := f.Save()
	require.NoError(t, err)
	want := map[string]uint64{}
	for _, row := range []struct {
		why, reason string
		message     []byte
	}{
		{"a key that the cloud does not have", "unknown key", body(stranger, "n1", good, 2000)},
		{"another key under a known name", "forged", body(liar, "n1", good, 2000)},
		{"another node's, on this node's topic", "wrong node", body(s, "n2", good, 2000)},
		{"the statement that was taken, again", "replayed", n.sent[0]},
		{"an older one", "replayed", body(s, "n1", good, 999)},
		{"no note", "malformed", []byte(`{}`)},
		{"no layout", "malformed", body(s, "n1", `{}`, 2000)},
		{"NaN, which JSON does not have", "malformed", body(s, "n1", part("1,0,1", `"NaN",1`), 2000)},
		{"beyond a float", "malformed", body(s, "n1", part("1,0,1", "1e999,1"), 2000)},
		{"huge", "impossible", body(s, "n1", part("1,0,1", "1e13,1"), 2000)},
		{"not positive semidefinite", "impossible", body(s, "n1", part("1,2,1", "1,1"), 2000)},
		{"a size that does not fit its kind", "impossible", body(s, "n1", part("1", "1"), 2000)},
		{"a time before any clock's", "malformed", body(s, "n1", good, -1e10)},
	} {
		_, err := f.Handle("n1", row.message, now)
		var refused *Refused
		require.True(t, errors.As(err, &refused), "%s: %v", row.why, err)
		require.Equal(t, row.reason, refused.Reason, row.why)
		want[row.reason]++
	}
	require.Equal(t, want, f.Counts().Refused)
	after, err := f.Save()
	require.NoError(t, err)
	require.JSONEq(t, string(before), string(after))
}

// However a hostile node lies, it changes the sum of the others by no more than the clip.
func TestAHostileNodeChangesNoMoreThanItsShare(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Unix(1000, 0)
		f := newFleet(t, func(terms *Terms) { terms.Clip = 50 })
		for i := range 4 {
			join(t, f, fmt.Sprint("n", i), &now, saw(15, 0.1)).speak(now)
		}
		count := rapid.Float64Range(0, 1e9).Draw(rt, "count")
		mean := rapid.Float64Range(-1e3, 1e3).Draw(rt, "mean")
		lie := saw(count, mean)
		honest := f.sumFor("fresh")
		s, _ := codecs(t, plant)
		msg, err := encode(s, seal.Learned, "bad", &statement{stamp: 1001e9, Layout: "1", Parts: lie})
		require.NoError(t, err)
		_, err = f.Handle("bad", msg, now)
		require.NoError(t, err)
		bent := f.sumFor("fresh")
		off := math.Hypot(bent.Matrix[0]-honest.Matrix[0], bent.Moments[0]-honest.Moments[0])
		require.LessOrEqual(t, off, 50*(1+1e-9))
	})
}

func (f *Fleet) sumFor(name string) pool.Part {
	f.latest[name] = &contribution{Layout: "1"}
	defer delete(f.latest, name)
	f.round = nil
	f.begin(time.Unix(1000, 0))
	return f.answer(name).Parts[pool.Cloud+"a"]
}

// The answer informs a node whose clock was set back, and its next statement counts.
func TestAClockThatWasSetBack(t *testing.T) {
	now := time.Unix(5000, 0)
	f := newFleet(t)
	join(t, f, "n1", &now, saw(15, 0.5)).speak(now)
	again := join(t, f, "n1", &now, saw(15, 0.7)) // without memory
	again.speak(time.Unix(100, 0))
	require.Error(t, again.errs[0])
	again.speak(time.Unix(200, 0))
	require.NoError(t, again.errs[1])
	require.InDelta(t, 10.5, f.latest["n1"].Parts[pool.Cloud+"a"].Moments[0], 1e-9)
}

// A cloud whose clock was set back continues to answer, and an answer to an earlier start of the node is not accepted again.
func TestTheClockOfTheCloudIsNoMeasureOfWhatIsNew(t *testing.T) {
	now := time.Unix(5000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	n.speak(now)
	raw, err := f.Save()
	require.NoError(t, err)
	require.NoError(t, f.Restore(raw))
	f.sent = 0 // as after a restart
	now = time.Unix(100, 0)
	n.speak(time.Unix(6000, 0))
	require.Empty(t, n.Status().Problem)
	require.EqualValues(t, 2, n.Status().Models)

	again := join(t, f, "n1", &now, saw(15, 0.5))
	again.Take(n.answers[1])
	require.Contains(t, again.Status().Problem, "replayed", "nothing was asked yet")
	again.Tick(time.Unix(7000, 0))
	again.Take(n.answers[1])
	require.Zero(t, again.Status().Models)
	again.Take(again.answers[0])
	require.EqualValues(t, 1, again.Status().Models)
}

// Statistics of a negative weight, as small as rounding makes them, neither reach others as NaN nor prevent saving the state.
func TestOneNodeDoesNotSilenceTheFleet(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	for i := range 3 {
		join(t, f, fmt.Sprint("n", i), &now, saw(15, 0.5)).speak(now)
	}
	sealer, _ := codecs(t, plant)
	msg, err := encode(sealer, seal.Learned, "bad", &statement{stamp: 1001e9, Layout: "1", Parts: pool.Parts{pool.Cloud + "a": {Matrix: []float64{-0.9e-9}, Moments: []float64{0}}}})
	require.NoError(t, err)
	_, err = f.Handle("bad", msg, now)
	require.NoError(t, err)
	now = now.Add(2 * time.Minute)
	fresh := join(t, f, "fresh", &now, nil)
	fresh.speak(now)
	require.NoError(t, fresh.errs[0])
	require.InDelta(t, 0.5, fresh.learner.prior[pool.Cloud+"a"].Moments[0]/20, 1e-9)
	_, err = f.Save()
	require.NoError(t, err)
}

// Everything that a fleet has accepted it accepts again after a restart, whatever the name of the node.
func TestAStateOfAnyNodeIsRead(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	for _, name := range []string{" ", "a b", "é", "…", "\"", "<&>"} {
		join(t, f, name, &now, saw(15, 0.5)).speak(now)
	}
	raw, err := f.Save()
	require.NoError(t, err)
	require.NoError(t, newFleet(t).Restore(raw))
	require.Equal(t, 6, f.Counts().Nodes)
}

// Nodes that are gone make room for others once their contributions no longer count.
func TestAFullFleetForgetsThoseWhoAreGone(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	for i := range maxNodes {
		f.latest[fmt.Sprint("gone", i)] = &contribution{At: now, Layout: "1"}
	}
	n := join(t, f, "new", &now, nil)
	n.Tick(now)
	require.ErrorContains(t, n.errs[0], "full")
	now = now.Add(f.terms.MaxAge + time.Minute)
	n.Tick(now)
	require.NoError(t, n.errs[1])
	require.Equal(t, 1, f.Counts().Nodes)
}

// An old answer, one for another node and one of another layout are rejected.
func TestANodeBelievesOnlyWhatIsNewAndItsOwn(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	n.speak(now)
	n.Take(n.answers[0])
	require.Contains(t, n.Status().Problem, "replayed")
	m := join(t, f, "n2", &now, saw(15, 0.5))
	m.Tick(now)
	n.Take(m.answers[0])
	require.Contains(t, n.Status().Problem, "wrong node")
	m.learner.layout = "2"
	m.Take(m.answers[0])
	require.Contains(t, m.Status().Problem, "other layout")
	require.EqualValues(t, 2, n.Status().Refused)
	require.EqualValues(t, 1, n.Status().Models)
}

// Noise is as large as the analysis requires, the same for all nodes of a round, and different in the next.
func TestNoiseIsDrawnOnceARound(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t, func(terms *Terms) { terms.Epsilon = 0.5 })
	require.InEpsilon(t, 20*math.Sqrt(2*math.Log(1.25e6))/0.5, f.terms.Deviation(1), 1e-12)
	require.InEpsilon(t, 2*f.terms.Deviation(1), f.terms.Deviation(4), 1e-12, "a root of the parts")
	for i := range 4 {
		join(t, f, fmt.Sprint("n", i), &now, saw(15, 0.1)).speak(now)
	}
	now = now.Add(2 * time.Minute)
	noise := func(name string) float64 {
		join(t, f, name, &now, nil).speak(now)
		return f.answer(name).Parts[pool.Cloud+"a"].Weight()
	}
	a := noise("a")
	require.InDelta(t, a, noise("b"), 1e-9)
	require.NotEqual(t, 60.0, a)
	now = now.Add(2 * time.Minute)
	require.NotEqual(t, a, noise("c"))
}

// A restart loses neither contributions nor the record of accepted statements; an invalid state is rejected.
func TestAFleetSurvivesARestart(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	n.speak(now)
	raw, err := f.Save()
	require.NoError(t, err)
	again := newFleet(t)
	require.NoError(t, again.Restore(raw))
	_, err = again.Handle("n1", n.sent[0], now)
	require.ErrorContains(t, err, "replayed")
	require.Equal(t, 1, again.Counts().Nodes)
	for _, bad := range []string{"", "{}", `{"format":"app-offload fleet 1","nodes":{"n":null}}`, `{"format":"app-offload fleet 1","nodes":{"n":{}}}`, `{"format":"app-offload fleet 1","nodes":{"":{"layout":"1"}}}`, `{"format":"app-offload fleet 1","nodes":{"n":{"layout":"1","parts":{"x":{}}}}}`} {
		require.Error(t, again.Restore([]byte(bad)))
	}
	require.Equal(t, 1, again.Counts().Nodes)
	require.NoError(t, again.Restore([]byte(`{"format":"app-offload fleet 1"}`)))
	_, err = again.Handle("n1", n.sent[0], now)
	require.NoError(t, err, "a state without nodes takes new ones")
}

// Any input is refused or leaves a state that can be saved, restored and answered from.
func FuzzHandle(f *testing.F) {
	o := seal.NewOpener(nil, seal.Limits{})
	cfg := seal.DefaultConfig()
	cfg.Cipher = seal.CipherNone
	s, err := seal.NewSealer(cfg, nil)
	require.NoError(f, err)
	for _, parts := range []pool.Parts{nil, saw(15, 0.5), {pool.Bandit + "local": {Matrix: make([]float64, 10), Moments: make([]float64, 4)}}} {
		msg, err := encode(s, seal.Learned, "n", &statement{stamp: 1e18, Layout: "1", Parts: parts})
		require.NoError(f, err)
		f.Add(msg)
		msg, err = encode(s, seal.Fleet, "n", &statement{stamp: 1e18, Layout: "1", Parts: parts, Nodes: 3, Last: 5})
		require.NoError(f, err)
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		fleet := New(DefaultTerms(), s, o)
		answer, err := fleet.Handle("n", msg, time.Unix(1000, 0))
		require.True(t, (answer == nil) != (err == nil))
		raw, err := fleet.Save()
		require.NoError(t, err)
		require.NoError(t, fleet.Restore(raw))
		l := &learner{layout: "1"}
		m := NewMember("n", s, o, l, func(string, []byte) {}, silent{})
		m.Set(Config{Interval: "1m", MinOutcomes: 1, Weight: 20, Clip: 1})
		m.Tick(time.Unix(0, 1))
		m.Take(msg)
		require.NoError(t, l.prior.Check())
		m.Tick(time.Unix(2000, 0))
	})
}
