package decision

import (
	"encoding/json"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestRingKeepsTheLatest(t *testing.T) {
	r := NewRing(3, time.UnixMilli(7))
	var ids []uint64
	for _, event := range []string{"a", "b", "c", "d"} {
		ids = append(ids, r.Add(&Entry{EventID: event, Device: "pump", Size: len(event)}))
	}
	require.Equal(t, []uint64{7001, 7002, 7003, 7004}, ids)
	_, ok := r.Get(ids[0])
	require.False(t, ok, "overwritten")
	_, ok = r.Get(0)
	require.False(t, ok)
	e, ok := r.Get(ids[3])
	require.True(t, ok)
	require.Equal(t, "d", e.EventID)
	require.Equal(t, "pump", e.Device)

	events := func(found []Entry) (s string) {
		for _, e := range found {
			s += e.EventID
		}
		return s
	}
	require.Equal(t, "dcb", events(r.Last(10, nil)), "newest first")
	require.Equal(t, "dc", events(r.Last(2, nil)))
	require.Equal(t, "b", events(r.Last(2, func(e *Entry) bool { return e.EventID < "c" })))
	require.Empty(t, NewRing(3, time.Now()).Last(2, nil))
}

func TestOutcomeAndAmend(t *testing.T) {
	r := NewRing(2, time.Time{})
	id := r.Add(&Entry{Decision: Decision{Target: Cloud}})
	require.True(t, r.Outcome(id, Outcome{Time: 1.5, Met: true}))
	require.True(t, r.Amend(id, Decision{Target: Local, Reason: SpoolFull}, nil))
	e, _ := r.Get(id)
	require.Equal(t, Outcome{Known: true, Time: 1.5, Met: true}, e.Outcome)
	require.Equal(t, SpoolFull, e.Decision.Reason)
	r.Add(&Entry{})
	r.Add(&Entry{})
	require.False(t, r.Outcome(id, Outcome{}), "overwritten by a newer one, which it must not meet")
	require.False(t, r.Amend(id, Decision{}, nil))
}

func TestRingDoesNotHoldOnToTheEvent(t *testing.T) {
	r := NewRing(1, time.Time{})
	text := strings.Clone("event")
	id := r.Add(&Entry{EventID: text, Device: strings.Repeat("x", 1000)})
	e, _ := r.Get(id)
	require.Equal(t, "event", e.EventID)
	require.Len(t, e.Device, maxText, "and no name makes it grow without bound")
}

func TestNewEntry(t *testing.T) {
	tk := &task.Task{
		EventID: "e", Chunk: 2, Of: 5, Device: "d", Class: &task.Class{Name: "c"}, Data: make([]byte, 9), Complexity: 3,
		Deadline: time.Second, Received: 100,
	}
	e := NewEntry(tk, &score.Estimate{Bytes: 4}, &host.State{Time: 350, CPU: 5}, Decision{Target: Cloud}, "p", "v")
	require.Equal(t, Entry{
		Time: 350, EventID: "e", Chunk: 2, Of: 5, Device: "d", Class: "c", Size: 9, Complexity: 3, Deadline: time.Second, Waited: 250,
		Decision: Decision{Target: Cloud}, Policy: "p", Version: "v", Estimate: score.Estimate{Bytes: 4}, State: host.State{Time: 350, CPU: 5},
	}, e)
	older := NewEntry(tk, &score.Estimate{}, &host.State{Time: 50}, Decision{}, "p", "v")
	require.Zero(t, older.Waited)
	require.EqualValues(t, 100, older.Time)
}

func TestEntryGoesThroughJSON(t *testing.T) {
	in := Entry{
		ID: 1, Decision: Decision{Target: Cloud, Reason: Drawn}, Estimate: score.Estimate{CloudTime: math.Inf(1)},
		State: host.State{Temperature: math.NaN(), Watts: 2, Battery: 3},
	}
	b, err := json.Marshal(in)
	require.NoError(t, err)
	var out Entry
	require.NoError(t, json.Unmarshal(b, &out))
	require.True(t, math.IsNaN(out.State.Temperature))
	in.State.Temperature, out.State.Temperature = 0, 0
	require.Equal(t, in, out)
}

func TestManyAddWhileManyRead(t *testing.T) {
	r := NewRing(8, time.Time{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				id := r.Add(&Entry{EventID: "event", Device: "device", Size: i, Chunk: i})
				r.Outcome(id, Outcome{})
				if e, ok := r.Get(id); ok && (e.ID != id || e.Size != e.Chunk || e.EventID != "event") {
					t.Errorf("torn entry %+v", e)
				}
				r.Last(3, nil)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 4000, r.Last(1, nil)[0].ID)
}

func TestResultsFindTheirDecision(t *testing.T) {
	const entries = 1000
	r := NewRing(entries, time.Now())
	id := func(i int) uint64 {
		return r.Add(&Entry{EventID: strings.Repeat("e", i%3) + string(rune('a'+i%26)), Chunk: i, Decision: Decision{Target: Cloud}})
	}
	var ids []uint64
	for i := range 5 * entries {
		ids = append(ids, id(i))
	}
	found := 0
	for i := 4 * entries; i < 5*entries; i++ {
		at := r.Find(strings.Repeat("e", i%3)+string(rune('a'+i%26)), i)
		require.True(t, at == 0 || at == ids[i])
		if at != 0 {
			found++
		}
	}
	require.Greater(t, found, entries*98/100)
	require.Zero(t, r.Find("e", 1), "forgotten long ago")
	here := r.Add(&Entry{EventID: "here", Decision: Decision{Target: Local}})
	require.Zero(t, r.Find("here", 0), "no result comes for a local task")
	require.True(t, r.Outcome(here, Outcome{}))
	require.EqualValues(t, 4*entries+1, r.Unsettled())
}

// An entry belongs to one chunk of one event, until another entry replaces it; of several the latest counts.
func TestTheEntryOfAChunk(t *testing.T) {
	r := NewRing(4, time.Now())
	first := r.Add(&Entry{EventID: "a", Chunk: 0, Decision: Decision{Target: Cloud}, Arm: NoArm + 1}) // what of a trial was forgotten is not asked for
	second := r.Add(&Entry{EventID: "a", Chunk: 1, Decision: Decision{Target: Cloud}})
	for _, row := range []struct {
		id    uint64
		event string
		chunk int
		want  bool
	}{
		{first, "a", 0, true},
		{first, "a", 1, false},
		{first, "b", 0, false},
		{first, "", 0, false},
		{first, "aa", 0, false},
		{second, "a", 1, true},
		{second, "a", 0, false},
		{first + 4, "a", 0, false},
		{second + 4, "a", 1, false},
	} {
		require.Equal(t, row.want, r.is(row.id, row.event, row.chunk), row)
	}
	again := r.Add(&Entry{EventID: "a", Chunk: 0, Decision: Decision{Target: Cloud}})
	require.Equal(t, again, r.Find("a", 0))
	for range 2 {
		r.Add(&Entry{EventID: "b", Decision: Decision{Target: Cloud}})
	}
	require.False(t, r.is(first, "a", 0))
	require.Len(t, r.Last(9, nil), 4)
	require.Empty(t, NewRing(4, time.Now()).Last(9, nil))
}

// A decision that is bound anew is found, judged and shown as one of that moment; its arm stays while the configuration does.
func TestBind(t *testing.T) {
	r := NewRing(4, time.Time{})
	waits := Entry{
		EventID: "e", Chunk: 1, Device: "pump", Time: 1000, Arm: Canary, Version: "v1", Policy: "defer", Size: 5,
		Decision: Decision{Target: Local, Reason: Undecided},
	}
	id := r.Add(&waits)
	require.Zero(t, r.Find("e", 1), "nothing went to the cloud yet")
	bound := Entry{
		EventID: "e", Chunk: 1, Time: 3000, Waited: 2000, Version: "v1", Policy: "defer", Decision: Decision{Target: Cloud, Reason: BoundCloud},
		Estimate: score.Estimate{CloudTime: 2}, State: host.State{Time: 3000},
	}
	require.True(t, r.Bind(id, &bound))
	want := bound
	want.ID, want.Device, want.Arm, want.Size = id, "pump", Canary, 5
	have, _ := r.Get(id)
	require.Equal(t, want, have)
	require.Equal(t, id, r.Find("e", 1))
	bound.Version = "v2"
	require.True(t, r.Bind(id, &bound))
	have, _ = r.Get(id)
	require.Equal(t, NoArm, have.Arm, "that trial is over")
	require.False(t, r.Bind(id+1, &bound))
	require.False(t, r.Bind(0, &bound))
}
