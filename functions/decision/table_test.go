package decision

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Draws are those of SplitMix64, whose first outputs of seed 0 are published.
func TestDrawsAreOfSplitMix64(t *testing.T) {
	for n, out := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec} {
		require.InDelta(t, float64(out>>11)/(1<<53), Uniform(0, uint64(n)+1), 0)
	}
}

// What a reason implies about the decider, and about the fate of the task.
func TestWhatReasonsSay(t *testing.T) {
	is := map[string][]Reason{
		"guard":        {GuardLinkDown, GuardBacklog, GuardNeverLeave, GuardMemory, GuardBattery, GuardPrice, GuardOutside},
		"overPolicies": {GuardLinkDown, GuardBacklog, GuardNeverLeave, GuardMemory, GuardBattery, GuardPrice},
		"drop":         {Overload, TooLate},
		"wasLocal":     {LocalFailed, HardExample},
	}
	have := map[string][]Reason{}
	for r := ReasonNone; r <= Sooner; r++ {
		for name, holds := range map[string]bool{"guard": r.IsGuard(), "overPolicies": r.IsOverPolicies(), "drop": r.IsDrop(), "wasLocal": r.WasLocal()} {
			if holds {
				have[name] = append(have[name], r)
			}
		}
	}
	require.Equal(t, is, have)
	require.Equal(t, "unknown", Reason(len(reasonWords)).String())
	require.Equal(t, "sooner", Sooner.String())
}

// A record is accepted up to the bounds, and rejected with a reason beyond them: a wrong one would silently make an evaluation wrong.
func TestTheBoundsOfARecord(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, row := range map[string]struct {
		edit func(*Record)
		want string // "" is taken
	}{
		"the oldest format":    {func(r *Record) { r.Format = 1 }, ""},
		"the newest format":    {func(r *Record) { r.Format = 3 }, ""},
		"no format":            {func(r *Record) { r.Format = 0 }, "format 0"},
		"a newer format":       {func(r *Record) { r.Format = 4 }, "format 4"},
		"no id":                {func(r *Record) { r.ID = 0 }, "no id"},
		"no policy":            {func(r *Record) { r.Policy = "" }, "no policy"},
		"the first id":         {func(r *Record) { r.ID = 1 }, ""},
		"certain":              {func(r *Record) { r.Decision.Propensity = 1 }, ""},
		"more than certain":    {func(r *Record) { r.Decision.Propensity = math.Nextafter(1, 2) }, "propensity"},
		"impossible":           {func(r *Record) { r.Decision.Propensity = 0 }, "propensity"},
		"next to impossible":   {func(r *Record) { r.Decision.Propensity = 1e-300 }, ""},
		"no propensity":        {func(r *Record) { r.Decision.Propensity = nan }, "propensity"},
		"all zero":             {func(r *Record) { r.Size, r.Deadline, r.Waited = 0, 0, 0 }, ""},
		"a size below 0":       {func(r *Record) { r.Size = -1 }, "size"},
		"a deadline below 0":   {func(r *Record) { r.Deadline = -1 }, "deadline"},
		"a wait below 0":       {func(r *Record) { r.Waited = -1 }, "waited"},
		"the longest spans":    {func(r *Record) { r.Deadline, r.Waited = maxSpan, maxSpan }, ""},
		"a deadline too long":  {func(r *Record) { r.Deadline = maxSpan + 1 }, "beyond"},
		"a wait too long":      {func(r *Record) { r.Waited = maxSpan + 1 }, "beyond"},
		"the least complexity": {func(r *Record) { r.Complexity = 0 }, ""},
		"the most complexity":  {func(r *Record) { r.Complexity = 100 }, ""},
		"below complexity":     {func(r *Record) { r.Complexity = -1e-9 }, "complexity"},
		"above complexity":     {func(r *Record) { r.Complexity = 100.001 }, "complexity"},
		"no complexity":        {func(r *Record) { r.Complexity = nan }, "complexity"},
		"an outcome of 0":      {func(r *Record) { r.Outcome = Outcome{Known: true} }, ""},
		"an outcome before":    {func(r *Record) { r.Outcome.Time = -1 }, "outcome"},
		"energy below 0":       {func(r *Record) { r.Outcome.Energy = -1 }, "outcome"},
		"energy without":       {func(r *Record) { r.Outcome.Energy = nan }, "outcome"},
		"bytes below 0":        {func(r *Record) { r.Outcome.Bytes = -1 }, "outcome"},
		"none is not looked":   {func(r *Record) { r.Outcome = Outcome{Time: -1, Energy: -1, Bytes: -1} }, ""},
		"no time at all":       {func(r *Record) { r.Estimate.LocalTime, r.Estimate.CloudTime = 0, 0 }, ""},
		"no link":              {func(r *Record) { r.Estimate.CloudTime = inf }, ""},
		"local forever":        {func(r *Record) { r.Estimate.LocalTime = inf }, "predicted"},
		"local before":         {func(r *Record) { r.Estimate.LocalTime = -1 }, "predicted"},
		"cloud before":         {func(r *Record) { r.Estimate.CloudTime = -1 }, "predicted"},
		"local unknown":        {func(r *Record) { r.Estimate.LocalTime = nan }, "predicted"},
		"cloud unknown":        {func(r *Record) { r.Estimate.CloudTime = nan }, "predicted"},
	} {
		r := Record{RecordFormat, logged()}
		row.edit(&r)
		if row.want == "" {
			require.NoError(t, r.check(), name)
		} else {
			require.ErrorContains(t, r.check(), row.want, name)
		}
	}
	e := logged()
	line, err := AppendRecord(nil, &e)
	require.NoError(t, err)
	e.EventID = strings.Repeat("x", MaxRecord-(len(line)-2)) // one "e" is there, and the newline is not counted
	kept, err := AppendRecord([]byte("before"), &e)
	require.ErrorContains(t, err, fmt.Sprint(MaxRecord))
	require.Equal(t, "before", string(kept))
	e.EventID = e.EventID[1:]
	_, err = AppendRecord(nil, &e)
	require.NoError(t, err)
	require.True(t, Sampled(1, 1))
	require.False(t, Sampled(1, 0))
	n := 0
	for id := range uint64(10_000) {
		if Sampled(id, 0.2) {
			n++
		}
	}
	require.InDelta(t, 2000, n, 150)
}

// An entry keeps the time of its task, also at the first moment of the clock, and needs no class.
func TestAnEntryOfAnyTask(t *testing.T) {
	for received, waited := range map[int64]time.Duration{0: 0, 1: 99, 100: 0, 200: 0} {
		e := NewEntry(&task.Task{Received: received}, &score.Estimate{}, &host.State{Time: 100}, Decision{}, "p", "v")
		require.Equal(t, waited, e.Waited, received)
		require.Equal(t, max(received, 100), e.Time)
		require.Empty(t, e.Class)
	}
}

// Sweep shows each older entry without an outcome once, for any position of the ring.
func TestSweepShowsEachOldEntryOnce(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := NewRing(1+rng.IntN(6), time.Unix(100, 0))
		seen, times, known, gone := map[uint64]int{}, map[uint64]int64{}, map[uint64]bool{}, map[uint64]bool{}
		var ids []uint64
		now := int64(0)
		for range 40 {
			switch rng.IntN(4) {
			case 0, 1:
				now += int64(rng.IntN(3))
				id := r.Add(&Entry{Time: now})
				if len(ids) > 0 {
					require.Equal(t, ids[len(ids)-1]+1, id)
				}
				times[id] = now
				ids = append(ids, id)
				if n := len(ids) - len(r.slots); n > 0 {
					gone[ids[n-1]] = true
				}
			case 2:
				if len(ids) > 0 {
					id := ids[rng.IntN(len(ids))]
					require.Equal(t, !gone[id], r.Outcome(id, Outcome{}))
					known[id] = known[id] || !gone[id]
				}
			default:
				before := now - int64(rng.IntN(3)) + 1
				var found []uint64
				r.Sweep(before, func(e *Entry) { found = append(found, e.ID) })
				var want []uint64
				for _, id := range ids {
					if !gone[id] && !known[id] && times[id] < before && seen[id] == 0 {
						want = append(want, id)
					}
					if times[id] >= before {
						break
					}
				}
				require.Equal(t, want, found, "seed %d", seed)
				for _, id := range ids {
					if times[id] < before {
						seen[id]++
					}
				}
			}
		}
		left := uint64(0)
		for _, id := range ids {
			if gone[id] && !known[id] {
				left++
			}
		}
		require.Equal(t, left, r.Unsettled())
	}
	require.EqualValues(t, 100_000_001, NewRing(1, time.Unix(100, 0)).Add(&Entry{}), "ids begin at the milliseconds times a thousand")
}

// Results find the decision that sent a task to the cloud, for every way of getting there.
func TestWhatTurnsToTheCloudIsFound(t *testing.T) {
	for _, way := range []string{"added", "amended", "bound"} {
		for _, target := range []Target{Local, Cloud} {
			r := NewRing(4, time.Unix(100, 0))
			first := Decision{Target: Local}
			if way == "added" {
				first.Target = target
			}
			id := r.Add(&Entry{EventID: "e", Chunk: 3, Decision: first})
			switch way {
			case "amended":
				require.True(t, r.Amend(id, Decision{Target: target}, nil))
			case "bound":
				require.True(t, r.Bind(id, &Entry{EventID: "e", Chunk: 3, Decision: Decision{Target: target}}))
			}
			require.Equal(t, target == Cloud, r.Find("e", 3) == id, "%s for %v", way, target)
			require.Zero(t, r.Find("e", 2))
			require.Zero(t, r.Find("f", 3))
		}
	}
	r := NewRing(4, time.Unix(100, 0))
	require.False(t, r.Amend(0, Decision{}, nil))
	require.False(t, r.Bind(0, &Entry{}))
	require.False(t, r.Outcome(0, Outcome{}))
	_, ok := r.Get(0)
	require.False(t, ok)
	old := r.Add(&Entry{EventID: "e", Decision: Decision{Target: Cloud}})
	young := r.Add(&Entry{EventID: "e", Decision: Decision{Target: Cloud}})
	require.Equal(t, young, r.Find("e", 0), "the latest of two")
	require.Equal(t, old+1, young)
}

// The confidence of an answer is shown if it is the local model's and final.
func TestWhoseConfidenceIsShown(t *testing.T) {
	for _, row := range []struct {
		target     Target
		confidence float64
		shown      bool
	}{{Local, 0.9, true}, {Local, 0, false}, {Cloud, 0.9, false}, {Cloud, 0, false}} {
		e := Entry{Policy: "edge", Decision: Decision{Target: row.target, Reason: Fixed, Confidence: row.confidence}, Outcome: Outcome{Known: true, Time: 1}}
		require.Equal(t, row.shown, strings.Contains(Explain(e), "with a confidence of 90 %"), "%+v: %s", row, Explain(e))
	}
}

// A record returns the task with the fields that policies use, its class among them.
func TestTheTaskOfARecord(t *testing.T) {
	for why, never := range map[Reason]bool{CheaperCloud: false, GuardNeverLeave: true} {
		r := Record{RecordFormat, logged()}
		r.Decision.Reason = why
		tk := r.Task()
		require.Equal(t, &task.Class{Name: "camera", Priority: 3, NeverLeave: never}, tk.Class)
		require.Equal(t, []any{"e", "cam-1", 1, 80.0, 2 * time.Second, int64(2e18) - int64(time.Millisecond)},
			[]any{tk.EventID, tk.Device, tk.Of, tk.Complexity, tk.Deadline, tk.Received})
	}
}

// A share of all decisions is in a sample, none at 0 and all at 1, and a larger sample contains a smaller one.
func TestSamplesAreShares(t *testing.T) {
	counts := map[float64]int{0: 0, 0.3: 0, 0.6: 0, 1: 0}
	for id := range uint64(10_000) {
		for share := range counts {
			if Sampled(id, share) {
				counts[share]++
			}
		}
		require.True(t, !Sampled(id, 0.3) || Sampled(id, 0.6))
	}
	require.Equal(t, []int{0, 10_000}, []int{counts[0], counts[1]})
	require.InDelta(t, 3000, counts[0.3], 200)
	require.InDelta(t, 6000, counts[0.6], 200)
}
