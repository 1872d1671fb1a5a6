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

// Config has the dependencies of a Feedback.
type Config struct {
	Decisions int                  // size of the ring
	Rules     func() *decide.Rules // in force now
	Clock     *clock.Clock
	Log       say.Logger
	Watts     func() float64 // drawn by the processor, 0 if the node does not measure it
}

// Feedback follows each decision to its outcome. It is safe for concurrent use, after the Open methods and before the Close methods.
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
	log      *decisionLog // nil if disabled
}

// New returns a Feedback without decisions.
func New(c Config) *Feedback {
	f := &Feedback{
		ring: decision.NewRing(c.Decisions, time.Now()), rules: c.Rules, clock: c.Clock, logger: c.Log, watts: c.Watts,
		tally: newTally(), answers: newAnswers(), lateness: lateness{clock: c.Clock},
	}
	f.ring.Forgotten = f.overdue
	return f
}

// Add records a decision and returns its id. It copies the entry.
func (f *Feedback) Add(e *decision.Entry) (id uint64) { return f.ring.Add(e) }

// Amend replaces the decision of a case whose task took another path.
func (f *Feedback) Amend(c *decide.Case) { f.ring.Amend(c.ID, c.Decision, c.Task.OwnClass()) }

// Decided counts decisions made in one state under rules.
func (f *Feedback) Decided(r *decide.Rules, cases []*decide.Case, s *host.State) {
	f.tally.decided(r.Judge(), cases, s)
}

// Bound records and counts a decision made later than at the arrival of its task.
func (f *Feedback) Bound(r *decide.Rules, c *decide.Case, s *host.State) {
	e := decision.NewEntry(c.Task, &c.Estimate, r.Seen(c.Task, s), c.Decision, c.Policy, r.Version())
	f.ring.Bind(c.ID, &e)
	f.Decided(r, []*decide.Case{c}, s)
}

// Stands records and counts the original decision of a case that was to be parked.
func (f *Feedback) Stands(r *decide.Rules, c *decide.Case, s *host.State) {
	f.Amend(c)
	f.Decided(r, []*decide.Case{c}, s)
}

// Withdraw uncounts the decision of a refused task: it was never accepted, and its sender may send it again.
func (f *Feedback) Withdraw(r *decide.Rules, c *decide.Case, s *host.State) {
	f.tally.withdraw(r.Judge(), c, s)
}

// Stays records the predicted lateness of cases to be processed locally, in the state in which they were decided, for parts that must not delay them
// further.
func (f *Feedback) Stays(cases []*decide.Case, s *host.State) { f.lateness.see(cases, s.Time) }

// Lateness returns how many seconds late local work was recently predicted to be, or 0.
func (f *Feedback) Lateness() float64 { return f.lateness.seconds() }

// Link records one observation of the link. It is for one goroutine.
func (f *Feedback) Link(up bool, now time.Time) { f.outage.see(up, now) }

// LastOutage returns the time of the latest long outage of the link, or 0.
func (f *Feedback) LastOutage() int64 { return f.outage.latest.Load() }

// Ring returns the ring of decisions, for callers that need more than Decisions and Get.
func (f *Feedback) Ring() *decision.Ring { return f.ring }

// Decisions returns up to n of the latest decisions that satisfy keep, newest first.
func (f *Feedback) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	found := f.ring.Last(n, keep)
	for i := range found {
		found[i] = f.shown(found[i])
	}
	return found
}

// Get returns one of the latest decisions.
func (f *Feedback) Get(id uint64) (decision.Entry, bool) {
	e, ok := f.ring.Get(id)
	return f.shown(e), ok
}

// shown converts a decision's times to the time of day, by the current wall clock.
func (f *Feedback) shown(e decision.Entry) decision.Entry {
	stepped := int64(f.clock.Stepped())
	e.Time += stepped
	e.State.Time += stepped
	return e
}

// OpenLearned loads the learned state of an earlier run from dir. A damaged file is moved aside.
func (f *Feedback) OpenLearned(dir string, every time.Duration) error {
	f.learned = &learned{path: filepath.Join(dir, learnedFile), every: every, rules: f.rules}
	return f.learned.open(f.logger)
}

// SaveLearned saves the learned state at intervals until ctx ends.
func (f *Feedback) SaveLearned(ctx context.Context) { f.learned.run(ctx, f.logger) }

// CloseLearned saves the learned state for the last time.
func (f *Feedback) CloseLearned() error { return f.learned.close() }

// LearnedProblem returns why the learned state cannot be saved, or "".
func (f *Feedback) LearnedProblem() string { return f.learned.status().Problem }

// OpenLog opens a decision log of at most that many MiB, with a share of the decisions. It reports whether the log is enabled: dir "" disables it.
func (f *Feedback) OpenLog(dir string, mib int, share float64) (on bool, err error) {
	f.log, err = openDecisionLog(dir, mib, share, f.logger)
	return f.log != nil, err
}

// CloseLog writes the pending decisions, as long as ctx allows.
func (f *Feedback) CloseLog(ctx context.Context) error { return f.log.close(ctx) }

// settle records the outcome of a decision and passes it to everything that learns, however late and in whatever order outcomes arrive. A second
// outcome of a decision replaces the first in the ring, but nothing learns from it. what returns false to leave the decision unchanged. settle
// neither blocks nor does I/O.
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
	f.logRolledBack(rules, rolledBack)
}

// learn passes an entry with its first outcome to everything that learns. It runs under the lock of the entry. The trial judges a task that waited
// out an outage like any other, but no policy learns from it, since the next decision knows whether the link is up. Nor does a policy learn from a
// task that was processed locally before it was sent, since its time includes both.
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

func (f *Feedback) logRolledBack(r *decide.Rules, why string) {
	if why == "" {
		return
	}
	c, _ := r.Canary()
	f.logger.Warnf("canary of a policy rolled back until Writable.Policy changes: policy=%s reason=%q", c.Policy, why)
}

// Failed records that a decision will have no result.
func (f *Feedback) Failed(id uint64) {
	f.settle(id, func(*decision.Entry) (decision.Outcome, bool) { return decision.Outcome{Failed: true}, true })
}

// Shed records that a task was dropped for the reason in its decision. Nothing learns from it, since neither path failed.
func (f *Feedback) Shed(c *decide.Case) {
	f.ring.Edit(c.ID, func(e *decision.Entry) {
		e.Decision, e.Outcome = c.Decision, decision.Outcome{Known: true, Failed: true}
	})
}

// Done records the result of local work. Its energy is measured if the node measures its power, otherwise as predicted.
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

// outcomeAt returns the outcome of a decision at now, by the clock of the decision's time.
func outcomeAt(e *decision.Entry, now int64) decision.Outcome {
	took := time.Duration(max(now-e.Time, 0))
	return decision.Outcome{Time: took.Seconds(), Met: e.Deadline == 0 || e.Waited+took <= e.Deadline}
}

// Receipted takes records that are safe with the consumer. The receipt is the outcome of their decisions, unless the consumer answers tasks of the
// class with results: then the result is.
func (f *Feedback) Receipted(records []spool.Record) {
	now := f.clock.Now()
	for i := range records {
		r := &records[i]
		id := f.decisionOf(r)
		if id == 0 {
			continue // sent by an earlier run of the process
		}
		f.settle(id, func(e *decision.Entry) (decision.Outcome, bool) {
			if e.Outcome.Known {
				return e.Outcome, false // the result arrived first
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

// decisionOf returns the decision by which a record was sent, 0 if unknown. A record read back from disk has no tag; its decision is found by the
// event id in its payload.
func (f *Feedback) decisionOf(r *spool.Record) uint64 {
	if r.Tag != 0 {
		return r.Tag
	}
	event, chunk, err := task.Identity(r.Payload)
	if err != nil {
		return 0 // the consumer has the record and reports the damage
	}
	return f.ring.Find(event, chunk)
}

// Resulted takes the consumer's result of a task. Its time of arrival counts, since the cloud has another clock.
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

// Sweep counts decisions with an overdue outcome as late, for the canary: otherwise a policy that sends every task to a cloud that does not respond
// would never be noticed. An outcome is overdue when more time no longer raises its cost and it is late in every class.
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

// overdue passes a decision with an overdue outcome to the canary's trial, with its cost so far.
func (f *Feedback) overdue(e *decision.Entry, now int64) {
	if e.Arm == decision.NoArm || e.Overdue {
		return
	}
	rules, late := f.rules(), *e
	late.Outcome = outcomeAt(e, now)
	f.logRolledBack(rules, rules.OnTrial(&late))
	e.Overdue = true
}

// Observe learns how long the operators took for a task, immediately: the next prediction may be needed before the task is concluded.
func (f *Feedback) Observe(t *task.Task, seconds float64) {
	if t.Class != nil && t.Class.Model != "" {
		return // the run of the model counts instead
	}
	f.rules().Model.ObserveLocal(t.Class, t.Size(), t.Complexity, seconds)
}

// outage records the latest long outage of the link. Short gaps are normal for a link and are learned from.
type outage struct {
	latest atomic.Int64 // time
	since  time.Time    // start of the current outage, zero while the link is up; owned by see
}

const outageLong = 5 * time.Second

// see records one observation of the link.
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

// answers records the classes for which the consumer sends results. A result makes the next receipts wait for their results; after answerPatience
// receipts without a result, receipts count as outcomes again. It is safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	left map[string]int // receipts that may still wait for results, by class
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

// lateness records the latest predicted lateness of local work, for parts that must not delay it further. It is safe for concurrent use.
type lateness struct {
	late  atomic.Uint64 // bits of s
	at    atomic.Int64  // time
	clock *clock.Clock
}

// latenessHolds is how long a prediction counts: a queue that made one task late probably still exists.
const latenessHolds = 10 * time.Second

// see records decisions for local work made in one state.
func (l *lateness) see(cases []*decide.Case, now int64) {
	worst := 0.0
	for _, c := range cases {
		worst = max(worst, latenessOf(c, now))
	}
	l.store(worst, now)
}

// latenessOf returns how many seconds late a task is predicted to finish locally, negative if it is in time.
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

// seconds returns the current predicted lateness, or 0.
func (l *lateness) seconds() float64 {
	if l.clock.Since(l.at.Load()) > latenessHolds {
		return 0
	}
	return math.Float64frombits(l.late.Load())
}
