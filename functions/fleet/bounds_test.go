package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
	"app-offload/functions/pool"
	"app-offload/functions/seal"
)

// The bounds of the configuration.
func TestBounds(t *testing.T) {
	c := DefaultConfig()
	c.Interval = "1m"
	require.Equal(t, `Interval 10s to 24h0m0s
MinOutcomes 1 to 1000000
Weight 0.1 to 1000
Clip 1 to 1000000`, bounds.Of(c))
	require.NoError(t, DefaultConfig().Validate(), "a node need not take part")
	require.NoError(t, DefaultTerms().Validate())
	for name, edit := range map[string]func(terms *Terms, low, high bool){
		"least": func(terms *Terms, low, high bool) { terms.Least = map[bool]int{low: 1, high: 10_001}[true] },
		"clip":  func(terms *Terms, low, high bool) { terms.Clip = map[bool]float64{low: 0.9, high: 1e6 + 1}[true] },
		"every": func(terms *Terms, low, high bool) {
			terms.Every = map[bool]time.Duration{low: time.Second - 1, high: 24*time.Hour + 1}[true]
		},
		"max-age": func(terms *Terms, low, high bool) {
			terms.MaxAge = map[bool]time.Duration{low: time.Minute - 1, high: 366*24*time.Hour + 1}[true]
		},
		"epsilon": func(terms *Terms, low, high bool) { terms.Epsilon = map[bool]float64{low: -1e-9, high: 1}[true] },
		"delta":   func(terms *Terms, low, high bool) { terms.Delta = map[bool]float64{low: 1e-13, high: 0.11}[true] },
	} {
		for _, low := range []bool{true, false} {
			terms := DefaultTerms()
			edit(&terms, low, !low)
			require.ErrorContains(t, terms.Validate(), name)
		}
	}
}

// A full fleet still accepts the statements of its nodes, and counts them.
func TestAFullFleetTakesItsOwnNodes(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	for i := range maxNodes - 1 {
		f.latest[fmt.Sprint("n", i)] = &contribution{At: now.Add(-f.terms.MaxAge), Layout: "1"}
	}
	n := join(t, f, "last", &now, saw(15, 0.5))
	n.speak(now)
	n.speak(now.Add(time.Hour))
	require.NoError(t, errors.Join(n.errs...))
	now = now.Add(time.Hour)
	n.speak(now.Add(2 * time.Hour))
	require.NoError(t, errors.Join(n.errs...))
	require.Equal(t, Counts{Nodes: maxNodes, Taken: 3, Refused: map[string]uint64{}}, f.Counts(), "those who are gone are forgotten when room is needed")
}

// Each answer has its own stamp, also if the clock of the cloud stands still or is set back.
func TestAnswersHaveStampsOfTheirOwn(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	last := int64(0)
	for i, at := range []int64{1000, 1000, 500, 2000, 2000} {
		now = time.Unix(at, 0)
		n.speak(time.Unix(int64(3000+100*i), 0))
		st, refused := decode(f.opener, seal.Fleet, "n1", n.answers[i])
		require.Nil(t, refused)
		require.Greater(t, st.stamp, last)
		require.GreaterOrEqual(t, st.stamp, now.UnixNano())
		last = st.stamp
	}
}

// A statement above the maximum size is refused for its size.
func TestLargeStatementsAreRefused(t *testing.T) {
	s, _ := codecs(t, plant)
	body, err := json.Marshal(map[string]string{"layout": "1", "x": strings.Repeat("x", 1<<16)})
	require.NoError(t, err)
	message, err := s.SealNote(nil, &seal.Note{Kind: seal.Learned, ID: "1", Node: "n1", Created: time.Unix(2000, 0), Body: body})
	require.NoError(t, err)
	st, refused := decode(seal.NewOpener(plant, seal.Limits{MaxStatementKiB: 1}), seal.Learned, "n1", message)
	require.Nil(t, st)
	require.Equal(t, "too large", refused.Reason)
}

// A node asks again soon until it has a model, and then once per interval.
func TestANodeAsksSoonUntilItHasAModel(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	c := DefaultConfig()
	c.Interval = "1h"
	n.Set(c)
	said := func(at time.Duration) int { n.Tick(now.Add(at)); return len(n.sent) }
	require.Equal(t, 1, said(0))
	require.Equal(t, 1, said(askAgain-1))
	require.Equal(t, 2, said(askAgain), "no answer came")
	n.Take(n.answers[1])
	require.EqualValues(t, 1, n.Status().Models)
	require.Equal(t, 2, said(askAgain+time.Hour-1))
	require.Equal(t, 3, said(askAgain+time.Hour))
}

// An unanswered statement is sent again soon, also if earlier ones were answered.
func TestALostAnswerDelaysNoInterval(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	c := DefaultConfig()
	c.Interval = "24h"
	n.Set(c)
	var said []time.Duration
	for at := time.Duration(0); at < 72*time.Hour; at += time.Second {
		if n.Tick(now.Add(at)); len(n.sent) > len(said) {
			if said = append(said, at); len(said) != 2 { // the answer to the second one is lost
				n.Take(n.answers[len(said)-1])
			}
		}
	}
	require.Equal(t, []time.Duration{0, 24 * time.Hour, 24*time.Hour + askAgain, 48*time.Hour + askAgain}, said)
}

// A node whose statements are answered sends one per interval, and no more.
func TestANodeSpeaksOnceAnInterval(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	n := join(t, f, "n1", &now, saw(15, 0.5))
	c := DefaultConfig()
	c.Interval = "15m"
	n.Set(c)
	for at := time.Duration(0); at < 24*time.Hour; at += time.Second {
		before := len(n.sent)
		if n.Tick(now.Add(at)); len(n.sent) > before {
			n.Take(n.answers[before])
		}
	}
	require.InDelta(t, 24*4, len(n.sent), 1)
}

// The longest layout is accepted, and a longer one is not; a node without parts does not count as a contributor.
func TestWhoHasContributed(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	layout := strings.Repeat("l", maxLayout)
	for i := range 5 {
		own := saw(15, 0.5)
		if i > 2 {
			own = nil
		}
		n := join(t, f, fmt.Sprint("n", i), &now, own)
		n.learner.layout = layout
		n.speak(now)
		require.NoError(t, errors.Join(n.errs...))
		require.EqualValues(t, 1, n.Status().Statements)
	}
	now = now.Add(2 * time.Minute)
	fresh := join(t, f, "fresh", &now, nil)
	fresh.learner.layout = layout
	fresh.speak(now)
	require.Equal(t, 3, fresh.Status().Nodes)
	fresh.learner.layout += "l"
	fresh.Tick(now.Add(time.Hour))
	require.ErrorContains(t, fresh.errs[1], "malformed: layout")
}

// An answer has as many parts as a statement may have; if nodes have more of them together, the first by name.
func TestAnAnswerHasNoMorePartsThanAStatementMay(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	all := pool.Parts{}
	for i := range pool.MaxParts {
		all[fmt.Sprintf("%s%03d", pool.Cloud, i)] = pool.Part{Matrix: []float64{9}, Moments: []float64{1}}
	}
	speakers := 0
	told := func(own pool.Parts) pool.Parts {
		for range f.terms.Least {
			speakers++
			join(t, f, fmt.Sprint("n", speakers), &now, own).speak(now)
		}
		now = now.Add(2 * time.Minute)
		fresh := join(t, f, "fresh", &now, nil)
		fresh.speak(now)
		require.NoError(t, fresh.errs[0])
		require.Empty(t, fresh.Status().Problem)
		return fresh.learner.prior
	}
	require.Len(t, told(all), pool.MaxParts)
	most := told(pool.Parts{pool.Cloud + "000a": all[pool.Cloud+"000"], pool.Cloud + "zzz": all[pool.Cloud+"000"]})
	require.Len(t, most, pool.MaxParts)
	require.Contains(t, most, pool.Cloud+"000a")
	require.NotContains(t, most, pool.Cloud+"255")
}

// Contributions count until they are older than allowed, and are kept until their room is needed.
func TestContributionsAge(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFleet(t)
	of := func(age time.Duration) *contribution { return &contribution{At: now.Add(-age), Layout: "1"} }
	f.latest = map[string]*contribution{"old": of(f.terms.MaxAge), "older": of(f.terms.MaxAge + 1)}
	f.begin(now)
	require.Contains(t, f.round, "old")
	require.NotContains(t, f.round, "older")
	join(t, f, "new", &now, nil).speak(now)
	require.Equal(t, 3, f.Counts().Nodes)
}

// warned counts warnings.
type warned struct {
	silent
	n int
}

func (w *warned) Warnf(string, ...any) { w.n++ }

// What leaves a node is within its own norm, and one problem is logged once for a while.
func TestWhatAMemberSends(t *testing.T) {
	s, o := codecs(t, plant)
	var sent *statement
	log := &warned{}
	m := NewMember("n1", s, o, &learner{layout: "1", own: saw(1000, 0.5)}, func(_ string, message []byte) {
		st, refused := decode(o, seal.Learned, "n1", message)
		require.Nil(t, refused)
		sent = st
	}, log)
	c := DefaultConfig()
	c.Interval, c.Clip = "1m", 10
	m.Set(c)
	m.Tick(time.Unix(1000, 0))
	p := sent.Parts[pool.Cloud+"a"]
	require.InEpsilon(t, 10, math.Hypot(p.Matrix[0], p.Moments[0]), 1e-9)
	for range 3 {
		m.Take([]byte("{}"))
	}
	require.Equal(t, 1, log.n)
	require.EqualValues(t, 3, m.Status().Refused)
}
