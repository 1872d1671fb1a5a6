package faults

import (
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// answersOf replaces the network: the answer for each path.
type answersOf map[string]any

func (a answersOf) RoundTrip(r *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(r.URL.Path, "/api")
	answer := a[path]
	if next, ok := answer.(func() any); ok {
		answer = next()
	}
	text, ok := answer.(string)
	if !ok {
		raw, err := json.Marshal(answer)
		if err != nil || answer == nil {
			return nil, io.ErrUnexpectedEOF
		}
		text = string(raw)
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// asked is a system that answers without a network, with an empty database and no process.
func asked(t *testing.T, a answersOf) *system {
	t.Helper()
	before := http.DefaultTransport
	http.DefaultTransport = a
	t.Cleanup(func() { http.DefaultTransport = before })
	dir := t.TempDir()
	s := &system{
		cfg: Config{Dir: dir, Bin: dir, Out: io.Discard, CheckEvery: 1}, report: &Report{Faults: map[string]int{}}, began: time.Now(),
		cloud: &consumer{web: "http://cloud"}, store: "sqlite:" + filepath.Join(dir, "cloud.db"), random: rand.New(rand.NewPCG(1, 0)),
		publisher: &publisher{seed: 1},
	}
	s.database = newDatabase(s.store, s.publisher, s.violate)
	s.edge.Store(&stack.Stack{API: "http://edge/api"})
	return s
}

// filled creates the database with one row per number.
func filled(t *testing.T, s *system, numbers ...int) {
	t.Helper()
	db := tasks(strings.TrimPrefix(s.store, "sqlite:"))
	defer db.Close()
	for i, n := range numbers {
		_, err := db.Exec(`INSERT INTO tasks (sequence, event_id, data) VALUES (?, ?, ?)`, i, s.publisher.id(n), s.publisher.raw(n))
		require.NoError(t, err)
	}
}

const metrics = "go_goroutines 12\nprocess_resident_memory_bytes 2e+06\nother x\n"

// The account balances at each query and never decreases, and memory and goroutines stay within their bounds.
func TestEachLookChecksTheAccount(t *testing.T) {
	process := status.Process{RSS: maxRSS, Goroutines: maxGoroutines}
	for _, c := range []struct {
		name     string
		st       stack.Status
		accepted int64
		want     string
	}{
		{"at the bounds", stack.Status{Counts: stack.Counts{Accepted: 7}, Process: process}, 7, ""},
		{"balance", stack.Status{Counts: stack.Counts{Balance: -1}}, 0, "the balance is -1: {"},
		{"one less", stack.Status{Counts: stack.Counts{Accepted: 6}}, 7, "7 tasks had been accepted, and now it is 6"},
		{"memory", stack.Status{Process: status.Process{RSS: maxRSS + 1<<20}}, 0, "app-offload has 513 MiB and 0 goroutines"},
		{"goroutines", stack.Status{Process: status.Process{Goroutines: 251}}, 0, "app-offload has 0 MiB and 251 goroutines"},
	} {
		s := asked(t, answersOf{"/status": c.st})
		s.accepted = c.accepted
		_, err := s.ask(t.Context())
		require.NoError(t, err, c.name)
		require.Equal(t, 1, s.report.Asked)
		require.Equal(t, c.accepted, s.accepted)
		require.Equal(t, Bounds{RSS: c.st.Process.RSS, Goroutines: c.st.Process.Goroutines}, s.report.Edge)
		require.Equal(t, c.want == "", len(s.violations()) == 0, c.name)
		if c.want != "" {
			require.Contains(t, s.violations()[0], c.want)
			require.ErrorContains(t, s.verdict(), "1 violations, the first: "+c.want)
		}
	}
	s := asked(t, answersOf{"/metrics": metrics})
	b, err := s.askCloud(t.Context())
	require.NoError(t, err)
	require.Equal(t, Bounds{RSS: 2e6, Goroutines: 12}, b)
	require.Equal(t, b, s.report.Cloud)
	_, err = s.ask(t.Context())
	require.Error(t, err)
	require.Zero(t, s.report.Asked)
	_, err = asked(t, nil).askCloud(t.Context())
	require.Error(t, err)
	for range 2 * maxViolations {
		s.violate("x")
	}
	require.Len(t, s.violations(), maxViolations)
}

func TestGrowthIsSeen(t *testing.T) {
	from := Bounds{RSS: 10 << 20, Goroutines: 30}
	require.Empty(t, grown("a", from, Bounds{RSS: 106 << 20, Goroutines: 50}))
	require.Equal(t, "a has 107 MiB and 50 goroutines, at its first rest it had 10 and 30, ", grown("a", from, Bounds{RSS: 107 << 20, Goroutines: 50}))
	require.Equal(t, "a has 0 MiB and 51 goroutines, at its first rest it had 10 and 30, ", grown("a", from, Bounds{Goroutines: 51}))
}

// In the final account nothing is in flight, spooled or dropped, and the consumer has no gap.
func TestWhatIsLeftIsChecked(t *testing.T) {
	dropped := map[string]int64{"full": 1}
	for i, c := range []struct {
		counts stack.Counts
		drops  bool
		wrong  bool
	}{
		{stack.Counts{Accepted: 5}, false, false},
		{stack.Counts{Accepted: 4}, false, true},
		{stack.Counts{Accepted: 5, Balance: 1}, false, true},
		{stack.Counts{Accepted: 5, InFlight: 1}, false, true},
		{stack.Counts{Accepted: 5, Spooled: 1}, false, true},
		{stack.Counts{Accepted: 5, Dropped: dropped}, false, true},
		{stack.Counts{Accepted: 5, Dropped: dropped}, true, false},
	} {
		s := &system{drops: c.drops, accepted: 5, cfg: Config{Out: io.Discard}}
		s.checkAccount(c.counts)
		require.Equal(t, c.wrong, len(s.violations()) > 0, i)
	}
	const twoNodes = `{"duplicateRecords":3,"duplicateTasks":4} {"gaps":2}`
	for text, c := range map[string]struct {
		garbage  int64
		restored int
		drops    bool
		wrong    bool
	}{
		`{"gaps":0,"gone":{"skipped":9}}`:     {},
		`{"gaps":1}`:                          {wrong: true},
		`{"deadLetters":1}`:                   {wrong: true},
		`{"deadLetters":2}`:                   {garbage: 2},
		`{"deadLetters":3}`:                   {garbage: 2, wrong: true},
		`{"gone":{"full":1}}`:                 {wrong: true},
		`{"gone":{"full":2}}`:                 {drops: true},
		`{"gone":{"done":1}}`:                 {wrong: true},
		`{"gone":{"done":2},"deadLetters":9}`: {restored: 1},
		twoNodes:                              {wrong: true},
	} {
		s := &system{report: &Report{}, garbage: c.garbage, restored: c.restored, drops: c.drops, cfg: Config{Out: io.Discard}}
		require.NoError(t, s.checkStats(strings.NewReader(text)))
		require.Equal(t, c.wrong, len(s.violations()) > 0, text)
		if text == twoNodes {
			require.Equal(t, int64(7), s.report.Again)
		}
	}
	require.ErrorContains(t, (&system{report: &Report{}}).checkStats(strings.NewReader("no")), "reading what offload-cloud stats prints")
}

// Duplicate tasks, duplicate numbers and an additional epoch in the database are detected by counting.
func TestTheDatabaseIsCountedOnceMore(t *testing.T) {
	s := asked(t, nil)
	filled(t, s, 0, 1)
	s.publisher.sent.Store(2)
	require.NoError(t, os.WriteFile(filepath.Join(s.cfg.Bin, "offload-cloud"), []byte("#!/bin/sh\necho '{}'\n"), 0o700))
	require.NoError(t, s.inspect(t.Context()))
	require.Empty(t, s.violations())
	require.Equal(t, 2, s.report.Stored)
	db := tasks(strings.TrimPrefix(s.store, "sqlite:"))
	defer db.Close()
	change := func(db *sql.DB, statement string) {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
	change(db, `UPDATE tasks SET sequence = 7`)
	require.NoError(t, s.inspect(t.Context()))
	require.Equal(t, []string{"the database holds 0 tasks and 1 sequences twice, and 1 epochs"}, s.violations())
	require.Equal(t, 1, s.report.Doubled)
	change(db, `UPDATE tasks SET sequence = id, epoch = id`)
	require.NoError(t, s.inspect(t.Context()))
	require.Len(t, s.violations(), 2)
	s.restored = 1
	require.NoError(t, s.inspect(t.Context()))
	require.Len(t, s.violations(), 2, "a copy of the spool may begin an epoch")
}

// Missing events are reported, with the state of each part.
func TestLostEventsAreNamed(t *testing.T) {
	s := asked(t, answersOf{"/status": stack.Status{NodeName: "lab"}})
	require.NoError(t, os.WriteFile(filepath.Join(s.cfg.Bin, "offload-cloud"), []byte("#!/bin/sh\necho ' known '\n"), 0o700))
	s.publisher.sent.Store(3)
	s.publisher.acked.Store(3)
	filled(t, s, 0, 2)
	synctest.Test(t, func(t *testing.T) {
		require.ErrorContains(t, s.arrived(t.Context()), "1 events are lost")
	})
	require.Equal(t, 1, s.report.Lost)
	require.Equal(t, 2, s.report.Stored)
	require.Contains(t, s.violations()[0], "1 of 3 events are missing, and 0 special ones, events [1] with ids [00000001-0000-4000-8000-000000000001]; the consumer knows known; app-offload says {")
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, s.pass(t.Context(), "trouble", func(n int) bool { return n != 1 }))
		require.Len(t, s.violations(), 1)
		require.NoError(t, s.pass(t.Context(), "trouble", everyone))
	})
	require.Contains(t, s.violations()[1], "trouble: 1 events, such as [1]; app-offload says {")
	s.edge.Store(&stack.Stack{API: "http://edge/nothing"})
	require.Contains(t, s.status(t.Context()), "unexpected EOF")
	s.cfg.Bin = "/nowhere"
	require.Contains(t, s.stats(t.Context()), "no such file")
}

// Everything has arrived, but the spool never becomes empty.
func TestASpoolThatNeverEmptiesIsNamed(t *testing.T) {
	for _, c := range []stack.Counts{{Spooled: 3}, {InFlight: 3}} {
		s := asked(t, answersOf{"/status": stack.Status{Counts: c}})
		filled(t, s)
		synctest.Test(t, func(t *testing.T) { require.ErrorIs(t, s.arrived(t.Context()), errStuck) })
		require.Contains(t, s.violations()[0], "all has arrived, and 3 tasks are still in the spool: {")
	}
}

// A process that grows between two rests gets a while to shrink; then its stacks are requested.
func TestWhatGrewIsNamedAfterAWhile(t *testing.T) {
	a := answersOf{"/status": stack.Status{Process: status.Process{RSS: 1 << 20, Goroutines: 3}}, "/metrics": metrics}
	s := asked(t, a)
	p, err := stack.StartProgram("edge", io.Discard, nil, "sleep", "100")
	require.NoError(t, err)
	s.edge.Load().Edge = p
	require.NoError(t, s.compare(t.Context()))
	require.Equal(t, &calm{Bounds{RSS: 1 << 20, Goroutines: 3}, Bounds{RSS: 2e6, Goroutines: 12}}, s.calm)
	a["/status"] = stack.Status{Process: status.Process{RSS: 1 << 20, Goroutines: 24}}
	synctest.Test(t, func(t *testing.T) { require.EqualError(t, s.compare(t.Context()), "a process has grown") })
	require.Contains(t, s.violations()[0], "app-offload has 1 MiB and 24 goroutines, at its first rest it had 1 and 3, after 1m30s at rest")
	require.True(t, ended(p))
	delete(a, "/metrics")
	require.ErrorContains(t, s.compare(t.Context()), "asking offload-cloud")
	delete(a, "/status")
	require.ErrorContains(t, s.compare(t.Context()), "asking app-offload")
}

// Every event needs one answer; a repetition with the same id is counted, another id is a violation.
func TestAnswersAreCounted(t *testing.T) {
	s := asked(t, answersOf{"/status": stack.Status{}})
	w := &work{dir: "models", finds: map[string]map[string]int{}}
	require.NoError(t, s.answered(t.Context(), 5), "nothing answers here")
	s.work = w
	see := func(about, id, by string) { w.see(answerTo(about, id, by)) }
	see("e1", "r1", "cloud")
	see("e1", "r1", "cloud")
	see("e2", "r2", "cloud")
	see("e3", "r3", "") // an event of a device
	w.see([]byte("no event"))
	require.NoError(t, s.answered(t.Context(), 2))
	require.Equal(t, 2, s.report.Answers)
	require.Equal(t, 1, s.report.AnswersAgain)
	require.Empty(t, s.violations())
	synctest.Test(t, func(t *testing.T) { require.EqualError(t, s.answered(t.Context(), 5), "3 events have no answer") })
	require.Contains(t, s.violations()[0], "2 of 5 events have an answer on the MessageBus")
	see("e2", "r9", "cloud")
	require.NoError(t, s.answered(t.Context(), 2))
	require.Equal(t, "event e2 has several answers on the MessageBus", s.violations()[1])
	require.Equal(t, []string{"-models", "models", "-lease", "2s", "-tries", "100"}, w.args())
	require.Nil(t, (*work)(nil).args())
}

// Latencies are those of events that arrived meanwhile; an event without a receipt counts with its age.
func TestLatenciesAreOfFreshEvents(t *testing.T) {
	a := answersOf{}
	s := &stage{system: asked(t, a), scenario: scenario{duration: time.Second, rate: 1000}}
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		var list []decision
		add := func(at time.Duration, known bool, took float64) {
			d := decision{ID: uint64(len(list)), Time: now.Add(at).UnixNano()}
			d.Outcome.Known, d.Outcome.Time = known, took
			list = append(list, d)
		}
		for range 98 {
			add(0, true, 0.1)
		}
		add(time.Second-1, true, 0.2)
		add(0, false, 0)          // for two and a half seconds at the end
		add(-1, true, 9)          // before
		add(time.Second, true, 9) // and after
		a["/decisions"] = map[string]any{"decisions": list}
		p99 := 0.0
		require.NoError(t, s.measuring(&p99, "x")(t.Context()))
		require.InDelta(t, 2.5, p99, 1e-6)
		a["/decisions"] = map[string]any{}
		_, err := s.latencies(t.Context(), "x")
		require.ErrorContains(t, err, "no event came in")
		delete(a, "/decisions")
		_, err = s.latencies(t.Context(), "x")
		require.ErrorContains(t, err, "asking for decisions")
	})
	require.Equal(t, time.Second, answersSpan(1000))
	require.Equal(t, 10*time.Second, answersSpan(10))
}

// Usage is compared with that before, within a tenth, or within the size of the ring.
func TestUsageIsCompared(t *testing.T) {
	before := Usage{RSS: 100 << 20, Mean: 80 << 20, Goroutines: 40, Rate: 100, Published: 100}
	for _, c := range []struct {
		name   string
		during Usage
		ringed bool
		broken []string
	}{
		{"as before", Usage{RSS: 110 << 20, Mean: 88 << 20, Goroutines: 44, Rate: 98, Published: 100, Behind: 2, Spooled: 900}, false, nil},
		{"more", Usage{RSS: 111 << 20, Mean: 89 << 20, Goroutines: 45, Rate: 97, Published: 100, Behind: 2.1, Spooled: 899}, false, []string{
			"RSS while it lasted, times before (most)", "RSS while it lasted, times before (mean)", "goroutines", "rate of the intake", "s of traffic", "tasks that wait",
		}},
		{"a ring", Usage{RSS: 100<<20 + 3<<20*int64(spool.DefaultConfig().RingMiB), Goroutines: 40, Rate: 100, Published: 100, Spooled: 900}, true, nil},
		{"more than a ring", Usage{RSS: 101<<20 + 3<<20*int64(spool.DefaultConfig().RingMiB), Goroutines: 40, Rate: 100, Published: 100, Spooled: 900}, true, []string{"MiB of RSS"}},
	} {
		s := &stage{system: &system{report: &Report{}}, result: &ScenarioReport{Before: before, During: c.during, Seconds: 10}}
		s.compareUsage(c.ringed, 0.9)
		err := s.judge()
		require.Len(t, s.result.Broken, len(c.broken), "%s: %v", c.name, err)
		for i, want := range c.broken {
			require.Contains(t, s.result.Broken[i], want)
		}
	}
}

func TestTheClockIsSteppedByAFile(t *testing.T) {
	dir := t.TempDir()
	c := &steps{bin: "stepped", file: filepath.Join(dir, "step")}
	require.ErrorContains(t, c.to(0), "stepping the clock")
	require.NoError(t, os.WriteFile(c.file, make([]byte, 8), 0o600))
	require.NoError(t, c.to(-2*time.Hour))
	raw, err := os.ReadFile(c.file)
	require.NoError(t, err)
	require.Equal(t, "e0e3ffffffffffff", hex.EncodeToString(raw))
	require.Equal(t, []string{"OFFLAB_CLOCK_STEP=" + c.file}, c.env())
	require.Empty(t, c.wrap())
	c.boot = "boot"
	require.Equal(t, "boot", c.wrap()[5])
	require.Empty(t, (*steps)(nil).env())
	require.Empty(t, (*steps)(nil).wrap())
	s := &system{cfg: Config{Bin: "bin"}}
	require.Equal(t, "bin", s.edgeBin())
	s.clock = c
	require.Equal(t, "stepped", s.edgeBin())
}

// Usage has the largest figures, the mean, rates since the first query, and the lag of the intake.
func TestUsageIsObserved(t *testing.T) {
	st, looks := stack.Status{}, 0
	s := &stage{system: asked(t, nil), scenario: scenario{rate: 100}}
	p, err := stack.StartProgram("edge", io.Discard, nil, "sleep", "100")
	require.NoError(t, err)
	defer p.Kill()
	s.edge.Load().Edge = p
	s.publisher.sent.Store(1000)
	http.DefaultTransport = answersOf{"/status": func() any { // asked restores the true one
		looks++
		st.Events.Received = uint64(900 + 40*looks)
		st.Process.Goroutines = 50 - looks
		st.Counts.Spooled = int64(looks)
		s.publisher.sent.Add(50)
		return st
	}}
	synctest.Test(t, func(t *testing.T) {
		var u Usage
		require.NoError(t, s.observing(&u, "x", 10*time.Second)(t.Context()))
		require.Equal(t, 21, looks)
		require.Positive(t, u.RSS)
		require.LessOrEqual(t, u.Mean, u.RSS)
		require.Greater(t, u.Mean, u.RSS/2)
		u.RSS, u.Mean = 0, 0
		// Before the n-th answer 1000 + 50·(n−1) events were published, and 900 + 40·n had been received.
		require.Equal(t, Usage{Goroutines: 49, Rate: 80, Published: 100, Behind: 2.6, Spooled: 21}, u)
	})
	http.DefaultTransport = answersOf{}
	require.ErrorContains(t, s.observing(&Usage{}, "sleeping", 1)(t.Context()), "asking app-offload while sleeping")
}

// While app-offload does not answer, no gap is explained and no spool is empty.
func TestAServiceThatDoesNotAnswerIsWaitedFor(t *testing.T) {
	looks := 0
	s := &stage{system: asked(t, nil), result: &ScenarioReport{}, scenario: scenario{rate: 100}}
	require.NoError(t, os.WriteFile(filepath.Join(s.cfg.Bin, "offload-cloud"), []byte("#!/bin/sh\necho '{\"gaps\":0}'\n"), 0o700))
	filled(t, s.system)
	left := []int64{-1, -1, 201, 200, 0} // -1: no answer
	http.DefaultTransport = answersOf{"/status": func() any {
		if looks++; left[looks-1] < 0 {
			return nil
		}
		return stack.Status{Counts: stack.Counts{Spooled: left[looks-1]}}
	}}
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, s.explained(t.Context()))
		require.Equal(t, 4, looks, "until no more is spooled than comes in within two seconds")
		looks = 0
		require.NoError(t, s.emptied(t.Context()))
		require.Equal(t, 5, looks)
		require.Positive(t, s.result.Drain)
		looks, left = 0, make([]int64, 2000)
		s.publisher.sent.Store(1) // and one that was acknowledged and never came in
		s.publisher.acked.Store(1)
		require.ErrorIs(t, s.emptied(t.Context()), errStuck)
	})
	require.Contains(t, s.violations()[0], "0 tasks are still in the spool")
}

// The clock steps by each of the listed times, with the link cut meanwhile and restored afterwards.
func TestTheClockStepsBothWays(t *testing.T) {
	l, err := badlink.New("127.0.0.1:9")
	require.NoError(t, err)
	defer l.Close()
	c := &steps{file: filepath.Join(t.TempDir(), "step")}
	require.NoError(t, os.WriteFile(c.file, make([]byte, 8), 0o600))
	s := &system{link: l, clock: c, cfg: Config{pace: 1000}}
	seen := map[int64]bool{}
	for seed := range uint64(60) {
		drawn := rand.New(rand.NewPCG(seed, 0))
		if drawn.Int64N(int64(2 * time.Second)); drawn.IntN(7) >= 0 && drawn.IntN(3) == 0 {
			continue // a new boot
		}
		s.random = rand.New(rand.NewPCG(seed, 0))
		require.NoError(t, s.stepClock(t.Context()))
		require.True(t, reaches(l.Addr))
		raw, err := os.ReadFile(c.file)
		require.NoError(t, err)
		seen[int64(binary.NativeEndian.Uint64(raw))] = true //nolint:gosec // the same bits
	}
	require.Equal(t, map[int64]bool{0: true, 3600: true, -3600: true, 86400: true, -86400: true, 946080000: true, -946080000: true}, seen)
}

func TestTheRunIsOverWhenAllThatWasAskedForIsDone(t *testing.T) {
	cfg := Config{Rounds: 1, EdgeKills: 2, CloudKills: 3, KillRounds: 4, CheckEvery: 1}
	over := Report{Rounds: 1, Kills: Kills{Edge: 2, Cloud: 3}, KillRounds: 4}
	require.False(t, (&system{cfg: cfg, report: &over}).left())
	for i, less := range []func(r *Report){
		func(r *Report) { r.Rounds-- }, func(r *Report) { r.Kills.Edge-- }, func(r *Report) { r.Kills.Cloud-- }, func(r *Report) { r.KillRounds-- },
	} {
		r := over
		less(&r)
		require.True(t, (&system{cfg: cfg, report: &r}).left(), i)
	}
	require.NoError(t, cfg.Validate())
	for want, change := range map[string]func(c *Config){
		"-rate -1": func(c *Config) { c.Rate = -1 }, "-rate +Inf": func(c *Config) { c.Rate = math.Inf(1) }, "-check 0": func(c *Config) { c.CheckEvery = 0 },
		"-1: -rounds": func(c *Config) { c.Rounds = -1 }, "-2: -rounds": func(c *Config) { c.EdgeKills = -2 }, "-3: -rounds": func(c *Config) { c.CloudKills = -3 },
		"-4: -rounds": func(c *Config) { c.KillRounds = -4 }, "no kind \"x\"": func(c *Config) { c.Kinds = []string{"x"} },
	} {
		c := cfg
		change(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
}
