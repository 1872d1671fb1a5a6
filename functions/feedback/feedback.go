package feedback

import (
	"context"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/say"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// Config says what the feedback works with.
type Config struct {
	Decisions int                  // that the ring keeps
	Rules     func() *decide.Rules // in force at this moment
	Clock     *clock.Clock
	Log       say.Logger
	Watts     func() float64 // that the processor draws, 0 where the node does not measure it
}

// Feedback follows each decision to its outcome. It is safe for concurrent use; Open comes first, Close last.
type Feedback struct {
	ring   *decision.Ring
	rules  func() *decide.Rules
	clock  *clock.Clock
	logger say.Logger
	watts  func() float64

	tally    *tally
	answers  *answers
	outage   outage
	lateness lateness
	learned  *learned
	log      *decisionLog // nil without one
}

// New makes a ring without decisions.
func New(c Config) *Feedback {
	f := &Feedback{
		ring: decision.NewRing(c.Decisions, time.Now()), rules: c.Rules, clock: c.Clock, logger: c.Log, watts: c.Watts,
		tally: newTally(), answers: newAnswers(), lateness: lateness{clock: c.Clock},
	}
	f.ring.Forgotten = f.overdue
	return f
}

// Add notes a decision and returns its id. The entry is copied.
func (f *Feedback) Add(e *decision.Entry) (id uint64) { return f.ring.Add(e) }

// Amend replaces the decision of a case, which had to go otherwise.
func (f *Feedback) Amend(c *decide.Case) { f.ring.Amend(c.ID, c.Decision, c.Task.OwnClass()) }

// Decided counts decisions that were made in one state under rules.
func (f *Feedback) Decided(r *decide.Rules, cases []*decide.Case, s *host.State) {
	f.tally.decided(r.Judge(), cases, s)
}

// Bound notes and counts a decision that comes later than its task.
func (f *Feedback) Bound(r *decide.Rules, c *decide.Case, s *host.State) {
	e := decision.NewEntry(c.Task, &c.Estimate, r.Seen(c.Task, s), c.Decision, c.Policy, r.Version())
	f.ring.Bind(c.ID, &e)
	f.Decided(r, []*decide.Case{c}, s)
}

// Stands notes and counts the decision of a case that was to wait, as it was made.
func (f *Feedback) Stands(r *decide.Rules, c *decide.Case, s *host.State) {
	f.Amend(c)
	f.Decided(r, []*decide.Case{c}, s)
}

// Withdraw takes back the decision of a task that was refused: it was never accepted, and its sender may send it again.
func (f *Feedback) Withdraw(r *decide.Rules, c *decide.Case, s *host.State) {
	f.tally.withdraw(r.Judge(), c, s)
}

// Stays notes cases that are to be processed locally, by the state they were decided in, for those who must not make them later.
func (f *Feedback) Stays(cases []*decide.Case, s *host.State) { f.lateness.see(cases, s.Time) }

// Lateness is by how many seconds local work was last predicted to be late, 0 where it was not lately.
func (f *Feedback) Lateness() float64 { return f.lateness.seconds() }

// Link takes one look at the link. It is for one goroutine.
func (f *Feedback) Link(up bool, now time.Time) { f.outage.see(up, now) }

// LastOutage is a stamp of when the link was last gone for long, 0 if it was not.
func (f *Feedback) LastOutage() int64 { return f.outage.latest.Load() }

// Ring keeps the decisions, for a reader that wants more of them than Decisions and Get.
func (f *Feedback) Ring() *decision.Ring { return f.ring }

// Decisions are up to n of the latest, newest first, for which keep holds.
func (f *Feedback) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	found := f.ring.Last(n, keep)
	for i := range found {
		found[i] = f.shown(found[i])
	}
	return found
}

// Get is one of the latest decisions.
func (f *Feedback) Get(id uint64) (decision.Entry, bool) {
	e, ok := f.ring.Get(id)
	return f.shown(e), ok
}

// shown gives a decision the time of day for its stamps, by the wall clock as it stands now.
func (f *Feedback) shown(e decision.Entry) decision.Entry {
	stepped := int64(f.clock.Stepped())
	e.Time += stepped
	e.State.Time += stepped
	return e
}

// OpenLearned finds what an earlier run has learned in dir. What is damaged is set aside.
func (f *Feedback) OpenLearned(dir string, every time.Duration) error {
	f.learned = &learned{path: filepath.Join(dir, learnedFile), every: every, rules: f.rules}
	return f.learned.open(f.logger)
}

// SaveLearned saves what is learned every so often until ctx ends.
func (f *Feedback) SaveLearned(ctx context.Context) { f.learned.run(ctx, f.logger) }

// CloseLearned saves what is learned for the last time.
func (f *Feedback) CloseLearned() error { return f.learned.close() }

// LearnedProblem is why what is learned is not saved, "" if it is.
func (f *Feedback) LearnedProblem() string { return f.learned.status().Problem }

// OpenLog begins to write a decision log of at most so many MiB, with a share of the decisions. It reports whether there is one: with
// dir "" no log is written.
func (f *Feedback) OpenLog(dir string, mib int, share float64) (on bool, err error) {
	f.log, err = openDecisionLog(dir, mib, share, f.logger)
	return f.log != nil, err
}

// CloseLog writes the pending decisions, as long as ctx allows.
func (f *Feedback) CloseLog(ctx context.Context) error { return f.log.close(ctx) }

// settle notes what came of a decision and shows it to all who learn from it, however late it comes and in whatever order.
// A second outcome of the same decision replaces the first for those who look, and teaches nothing. what may leave the
// decision as it is by returning false. It neither blocks nor does any I/O.
func (f *Feedback) settle(id uint64, what func(*decision.Entry) (decision.Outcome, bool)) {
	rules, fresh, rolledBack := f.rules(), false, ""
	known := f.ring.Edit(id, func(e *decision.Entry) {
		o, ok := what(e)
		if !ok {
			return
		}
		fresh = !e.Outcome.Known
		o.Known = true
		e.Outcome = o
		if fresh {
			rolledBack = f.learn(rules, e)
		}
	})
	switch {
	case !known:
		f.tally.forgot()
	case fresh:
		f.log.offer(f, id)
	}
	f.sayRolledBack(rules, rolledBack)
}

// learn shows an entry with its first outcome to everything that learns. It runs under the lock of the entry. A task that waited
// out an outage is judged like any other, but no policy learns from it: the next decision will know whether there is a link. Nor does any
// learn from a task that was processed locally before it left, as its time is that of both.
func (f *Feedback) learn(r *decide.Rules, e *decision.Entry) (rolledBack string) {
	f.tally.settled(e)
	if e.Decision.Target == decision.Cloud && (e.Time < f.outage.latest.Load() || e.Decision.Reason.WasLocal()) {
		return r.OnTrial(e)
	}
	if e.Decision.Target == decision.Cloud && !e.Outcome.Failed {
		if class := r.Class(e.Class); class != nil {
			r.Model.ObserveTrip(class, e.Size, e.Complexity, &e.State, e.Outcome.Time)
		}
	}
	return r.Observe(e)
}

func (f *Feedback) sayRolledBack(r *decide.Rules, why string) {
	if why == "" {
		return
	}
	c, _ := r.Canary()
	f.logger.Warnf("canary of a policy rolled back until Writable.Policy changes: policy=%s reason=%q", c.Policy, why)
}

// Failed notes that no result will come.
func (f *Feedback) Failed(id uint64) {
	f.settle(id, func(*decision.Entry) (decision.Outcome, bool) { return decision.Outcome{Failed: true}, true })
}

// Shed notes that a task was dropped for what its decision says. It teaches nothing: neither path failed.
func (f *Feedback) Shed(c *decide.Case) {
	f.ring.Edit(c.ID, func(e *decision.Entry) {
		e.Decision, e.Outcome = c.Decision, decision.Outcome{Known: true, Failed: true}
	})
}

// Done notes the result of local work. Its energy is measured where the node measures its power, else as predicted.
func (f *Feedback) Done(c *decide.Case) {
	now, watts := f.clock.Now(), f.watts()
	f.settle(c.ID, func(e *decision.Entry) (decision.Outcome, bool) {
		o := outcomeAt(e, now)
		e.Decision.Confidence = c.Sure
		o.Energy = e.Estimate.LocalEnergy
		if watts > 0 {
			o.Energy = watts * c.Took.Seconds()
		}
		return o, true
	})
}

// outcomeAt is an outcome that came now, a stamp of the clock that the decision was stamped by.
func outcomeAt(e *decision.Entry, now int64) decision.Outcome {
	took := time.Duration(max(now-e.Time, 0))
	return decision.Outcome{Time: took.Seconds(), Met: e.Deadline == 0 || e.Waited+took <= e.Deadline}
}

// Receipted takes the records that are safe with the consumer. The receipt is the outcome of their decisions, unless the
// consumer answers tasks of the class with results: then the result is.
func (f *Feedback) Receipted(records []spool.Record) {
	now := f.clock.Now()
	for i := range records {
		r := &records[i]
		id := f.decisionOf(r)
		if id == 0 {
			continue // of an earlier life of this process
		}
		f.settle(id, func(e *decision.Entry) (decision.Outcome, bool) {
			if e.Outcome.Known {
				return e.Outcome, false // the result came before
			}
			o := outcomeAt(e, now)
			o.Energy, o.Bytes = e.Estimate.CloudEnergy, int64(len(r.Payload))
			if f.answers.expected(e.Class) {
				e.Outcome.Bytes = o.Bytes
				return o, false
			}
			return o, true
		})
	}
}

// decisionOf is the decision by which a record was sent, 0 if it is not known. A record that was read back from disk has no
// tag; its decision is found by the event ID in its payload.
func (f *Feedback) decisionOf(r *spool.Record) uint64 {
	if r.Tag != 0 {
		return r.Tag
	}
	event, chunk, err := task.Identity(r.Payload)
	if err != nil {
		return 0 // the consumer, which has it, is the one to complain
	}
	return f.ring.Find(event, chunk)
}

// Resulted takes the consumer's result of a task. Its time of arrival counts, because the cloud's clock is another one.
func (f *Feedback) Resulted(r seal.Result) {
	now := f.clock.Now()
	id := f.ring.Find(r.EventID, r.Chunk)
	f.settle(id, func(e *decision.Entry) (decision.Outcome, bool) {
		f.answers.came(e.Class)
		o := outcomeAt(e, now)
		o.Energy, o.Bytes, o.Failed = e.Estimate.CloudEnergy, e.Outcome.Bytes, !r.OK
		o.Met = o.Met && r.OK
		return o, true
	})
}

// Sweep counts decisions whose outcome is overdue as late, for the canary: a policy that sends everything where nothing comes
// back from would otherwise never be found out. Overdue is what costs no more by taking longer and is late in any class.
func (f *Feedback) Sweep(now time.Time) {
	rules := f.rules()
	if _, on := rules.Canary(); !on {
		return
	}
	age := time.Duration(rules.Judge().Horizon() * float64(time.Second))
	for _, c := range rules.Classes.All() {
		age = max(age, c.Deadline)
	}
	f.ring.Sweep(now.Add(-age).UnixNano(), func(e *decision.Entry) { f.overdue(e, now.UnixNano()) })
}

// overdue shows the canary's trial a decision whose outcome is not waited for any longer, with what it has cost so far.
func (f *Feedback) overdue(e *decision.Entry, now int64) {
	if e.Arm == decision.NoArm || e.Overdue {
		return
	}
	rules, late := f.rules(), *e
	late.Outcome = outcomeAt(e, now)
	f.sayRolledBack(rules, rules.OnTrial(&late))
	e.Overdue = true
}

// Observe learns how long the operators took for a task, at once: a prediction for the next one may be asked for before
// this one is concluded.
func (f *Feedback) Observe(t *task.Task, seconds float64) {
	if t.Class != nil && t.Class.Model != "" {
		return // what counts is the run of the model
	}
	f.rules().Model.ObserveLocal(t.Class, t.Size(), t.Complexity, seconds)
}

// outage remembers when the link was last gone for long. Short gaps are of the link's nature, and are learned from.
type outage struct {
	latest atomic.Int64 // stamp
	since  time.Time    // of the present one, zero while the link is up; see's alone
}

const outageLong = 5 * time.Second

// see takes one look at the link.
func (o *outage) see(up bool, now time.Time) {
	switch {
	case up:
		o.since = time.Time{}
	case o.since.IsZero():
		o.since = now
	case now.Sub(o.since) >= outageLong:
		o.latest.Store(now.UnixNano())
	}
}

// answers remembers for which classes the consumer sends results. One result makes the next receipts wait for theirs;
// after answerPatience receipts without a result they count by themselves again. Safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	left map[string]int // receipts that may still wait, by class
}

const (
	answerPatience = 100
	maxAnswers     = 4096 // classes remembered
)

func newAnswers() *answers { return &answers{left: map[string]int{}} }

func (a *answers) came(class string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.left[class]; known || len(a.left) < maxAnswers {
		a.left[class] = answerPatience
	}
}

func (a *answers) expected(class string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.left[class]
	if left > 0 {
		a.left[class] = left - 1
	}
	return left > 0
}

// lateness remembers by how much work that stayed here was last predicted to be late, for those who must not make it later.
// It is safe for concurrent use.
type lateness struct {
	late  atomic.Uint64 // bits of s
	at    atomic.Int64  // stamp
	clock *clock.Clock
}

// latenessHolds is how long a prediction counts: a queue that made one task late is likely still there.
const latenessHolds = 10 * time.Second

// see looks at decisions for local work that were made in one state.
func (l *lateness) see(cases []*decide.Case, now int64) {
	worst := 0.0
	for _, c := range cases {
		worst = max(worst, latenessOf(c, now))
	}
	l.store(worst, now)
}

// latenessOf is by how many seconds a task is predicted to be late here, below 0 where it is in time.
func latenessOf(c *decide.Case, now int64) float64 {
	if c.Task.Deadline <= 0 {
		return 0
	}
	waited := float64(now-c.Task.Received) / 1e9
	return c.Estimate.LocalTime + waited - c.Task.Deadline.Seconds()
}

func (l *lateness) store(late float64, now int64) {
	if late > 0 {
		l.late.Store(math.Float64bits(late))
		l.at.Store(now)
	}
}

// seconds is the predicted lateness at present, 0 without any.
func (l *lateness) seconds() float64 {
	if l.clock.Since(l.at.Load()) > latenessHolds {
		return 0
	}
	return math.Float64frombits(l.late.Load())
}
