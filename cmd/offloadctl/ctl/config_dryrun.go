package ctl

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/intake"
	"app-offload/functions/intake/parse"
	"app-offload/functions/kin"
	"app-offload/functions/local"
	"app-offload/functions/score"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// dryRun holds the flags of the dry run.
type dryRun struct {
	feed, link             string
	cpu, mbit, queue, full float64
	rtt                    time.Duration
	noEnv, each, asJSON    bool
}

func (d *dryRun) register(fs *flag.FlagSet) {
	fs.StringVar(&d.feed, "feed", "", "`file` of recorded events, - for the standard input")
	fs.Float64Var(&d.cpu, "cpu", 20, "CPU load of the node in percent")
	fs.StringVar(&d.link, "link", "up", "the link to the cloud: up or down")
	fs.Float64Var(&d.mbit, "mbit", 0, "the link's goodput in Mbit/s; 0 means Offload.Writable.Score.LinkMbit")
	fs.DurationVar(&d.rtt, "rtt", 0, "the link's round trip time; 0 means Offload.Writable.Score.RTT")
	fs.Float64Var(&d.queue, "queue", 0, "work queued for local workers, in Mcycles")
	fs.Float64Var(&d.full, "full", 0, "fill level of the spool in percent")
	fs.BoolVar(&d.noEnv, "no-env", false, "ignore the environment")
	fs.BoolVar(&d.each, "each", false, "print a line for each task, and for each event without tasks, instead of the table")
	fs.BoolVar(&d.asJSON, "json", false, "as JSON; with -each, one object per line")
}

func dryRunVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.flags("config dry-run")
	var d dryRun
	d.register(fs.FlagSet)
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) != 1:
		return fs.misused(fileArgument)
	case d.feed == "":
		return fs.misused("-feed is missing; make one with `offload-lab generate -duration 1m > feed.jsonl`")
	case d.feed == "-" && rest[0] == "-":
		return fs.misused("configuration and feed cannot both come from the standard input")
	case d.link != "up" && d.link != "down":
		return fs.misused("-link %q: must be up or down", d.link)
	case !(d.cpu >= 0 && d.cpu <= 100) || !(d.full >= 0 && d.full <= 100):
		return fs.misused("-cpu %g, -full %g: must be between 0 and 100", d.cpu, d.full)
	case !finite(d.mbit, d.queue) || d.mbit < 0 || d.queue < 0 || d.rtt < 0:
		return fs.misused("-mbit %g, -queue %g, -rtt %v: must be finite and not negative", d.mbit, d.queue, d.rtt)
	}
	e, err := sh.loadFile(rest[0], !d.noEnv)
	if err != nil {
		return err
	}
	if err := e.complain(sh.err); err != nil {
		return err
	}
	feed, err := sh.open(d.feed)
	if err != nil {
		return fmt.Errorf("opening the feed: %w", err)
	}
	defer feed.Close() //nolint:errcheck // it was only read
	return d.run(ctx, e, feed, sh.out)
}

// rules are the classes, guards and policies of the file, applied as in the service to a node in one fixed state.
type rules struct {
	*decide.Rules
	limits parse.Limits
	refuse bool // reject events that do not fit into a message
	state  host.State
	start  int64            // of the feed, ns since the epoch
	local  *local.Processor // reports which readings the operators use; it processes nothing
	kin    *kin.Kin         // recognises results, which are skipped unless a class matches them
}

func (d *dryRun) rules(e *effective) (*rules, error) {
	w := e.cfg.Writable
	r := &rules{limits: e.cfg.Intake.Limits(), refuse: e.cfg.Intake.Unsendable == intake.UnsendableRefuse, state: host.State{CPU: d.cpu, QueueCycles: d.queue}, start: time.Now().UnixNano()}
	r.kin = kin.New(e.cfg.Node, serviceKey, e.cfg.Intake.MaxHops, silent{})
	r.state.Link = host.Link{Up: d.link == "up", Goodput: d.mbit * 1e6 / 8, RTT: d.rtt.Seconds(), BacklogShare: d.full / 100}
	model, err := score.New(w.Score)
	if err != nil {
		return nil, err
	}
	if r.Rules, err = e.cfg.Rules(w, model, decide.Local{Reads: func(t *task.Task) bool { return r.local.ReadsAll(t) }}, nil); err != nil {
		return nil, err
	}
	r.local, err = local.New(e.cfg.Local.Sized(host.MemoryLimit()), r.Classes, nil, nil)
	return r, err
}

// serviceKey is the default service key of app-offload.
const serviceKey = "app-offload"

// silent is a logger that discards everything.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// feedLine is one line of a feed.
type feedLine struct {
	Topic   string          `json:"topic"`
	AfterMS float64         `json:"afterMs"` // since the start of the feed; the arrival rate influences some policies
	Payload json.RawMessage `json:"payload"`
}

// run decides for every event of the feed.
func (d *dryRun) run(ctx context.Context, e *effective, feed io.Reader, out io.Writer) (err error) {
	r, err := d.rules(e)
	if err != nil {
		return err
	}
	defer r.local.Close(ctx) //nolint:errcheck // it has no tasks
	w := bufio.NewWriter(out)
	defer func() { // also prints the decisions made before an unreadable line
		if left := w.Flush(); err == nil {
			err = left
		}
	}()
	total := newSummary(r.For("").String())
	in := bufio.NewReaderSize(feed, 1<<20)
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted at line %d of the feed: %w", n, ctx.Err())
		}
		raw, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading line %d of the feed: %w", n, err)
		}
		if len(bytes.TrimSpace(raw)) > 0 {
			if err := d.line(r, n, raw, total, w); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
	}
	if d.each {
		return nil
	}
	total.Skipped = r.kin.Skipped()
	return total.write(w, d.asJSON)
}

// line decides for one line. It counts a rejected event or a skipped result by reason, as the service does; an unreadable line ends the run.
func (d *dryRun) line(r *rules, n int, raw []byte, total *summary, w io.Writer) error {
	var l feedLine
	err := json.Unmarshal(raw, &l)
	if err == nil && !bytes.HasPrefix(l.Payload, []byte("{")) { // such as a recording of the bus itself, with bare events or envelopes
		err = errors.New("the payload must be an event, as an object")
	}
	if err != nil {
		return fmt.Errorf("line %d of the feed is not {topic, afterMs, payload}, as `offload-lab generate` writes: %w", n, err)
	}
	if local.OwnTopic(l.Topic, serviceKey) {
		r.kin.Own()
		return d.noTask(w, noTask{Line: n, Skipped: "a result of this service"})
	}
	ev, err := r.limits.Parse(l.Payload, parse.ContentTypeJSON)
	if err != nil {
		return d.noTask(w, noTask{Line: n, Rejected: total.reject(err)})
	}
	if !r.kin.Admit(ev, r.Classes) {
		return d.noTask(w, noTask{Line: n, Skipped: "a result of another app-offload, matched by no class"})
	}
	ev.Received = r.start + int64(l.AfterMS*float64(time.Millisecond))
	entries, err := r.decide(ev)
	if err != nil {
		return d.noTask(w, noTask{Line: n, Rejected: total.reject(err)})
	}
	total.Events++
	for _, p := range entries {
		total.add(p)
		if !d.each {
			continue
		}
		if err := writeOne(w, p, d.asJSON); err != nil {
			return err
		}
	}
	return nil
}

// noTask is a line of the feed that yields no task, with the reason.
type noTask struct {
	Line     int    `json:"line"`
	Rejected string `json:"rejected,omitempty"`
	Skipped  string `json:"skipped,omitempty"`
}

func (d *dryRun) noTask(w io.Writer, l noTask) error {
	switch {
	case !d.each:
		return nil
	case d.asJSON:
		return writeLine(w, l)
	case l.Rejected != "":
		_, err := fmt.Fprintln(w, clean(fmt.Sprintf("rejected  line %d  %s", l.Line, l.Rejected)))
		return err
	}
	_, err := fmt.Fprintf(w, "skipped  line %d  %s\n", l.Line, l.Skipped)
	return err
}

// decide splits an event and decides for each of its tasks, as the pipeline does. The error says why the event can be neither sent nor processed.
func (r *rules) decide(ev *task.Event) ([]decision.Entry, error) {
	r.state.Time = ev.Received
	tasks := task.Split(ev, func(resource string) *task.Class { return r.Classes.ForResource(ev, resource) }, nil)
	if size, largest, found := r.Unsendable(tasks); found && r.refuse {
		return nil, parse.TooLargeToLeave(size, largest)
	}
	entries := make([]decision.Entry, len(tasks))
	for i, t := range tasks {
		c := decide.Case{Task: t}
		r.Decide(&c, &r.state)
		entries[i] = decision.NewEntry(t, &c.Estimate, &r.state, c.Decision, c.Policy, r.Version())
	}
	return entries, nil
}

// summary counts the decisions of a dry run.
type summary struct {
	Policy   string            `json:"policy"`
	Events   int               `json:"events"`
	Tasks    int               `json:"tasks"`
	Cloud    int               `json:"cloud"`
	Rejected map[string]uint64 `json:"rejected"` // events, by reason
	Skipped  map[string]uint64 `json:"skipped"`  // results of this or other app-offloads, by reason
	Groups   []*group          `json:"groups"`
	byKey    map[groupKey]*group
}

type groupKey struct{ class, policy, target, reason string }

// group is the tasks of one class with the same decision.
type group struct {
	Class     string   `json:"class"`
	Policy    string   `json:"policy"`
	Target    string   `json:"target"`
	Reason    string   `json:"reason"`
	Tasks     int      `json:"tasks"`
	Bytes     int64    `json:"bytes"`
	Score     float64  `json:"score"`     // mean
	LocalTime float64  `json:"localTime"` // mean, s
	CloudTime *float64 `json:"cloudTime"` // mean, s; null if the cloud is unreachable
}

func newSummary(policy string) *summary {
	return &summary{Policy: policy, Rejected: map[string]uint64{}, byKey: map[groupKey]*group{}}
}

// reject counts a rejected event and returns the reason with its detail.
func (s *summary) reject(err error) string {
	var r *parse.RejectError
	if errors.As(err, &r) {
		s.Rejected[r.Reason]++
		return r.Reason + ": " + r.Detail
	}
	s.Rejected["other"]++
	return err.Error()
}

func (s *summary) add(e decision.Entry) {
	s.Tasks++
	if e.Decision.Target == decision.Cloud {
		s.Cloud++
	}
	key := groupKey{e.Class, e.Policy, e.Decision.Target.String(), e.Decision.Reason.String()}
	g := s.byKey[key]
	if g == nil {
		g = &group{Class: key.class, Policy: key.policy, Target: key.target, Reason: key.reason}
		s.byKey[key] = g
		if !math.IsInf(e.Estimate.CloudTime, 0) {
			g.CloudTime = new(float64)
		}
	}
	g.Tasks++
	g.Bytes += int64(e.Size)
	n := float64(g.Tasks)
	g.Score += (e.Decision.Score - g.Score) / n
	g.LocalTime += (e.Estimate.LocalTime - g.LocalTime) / n
	if g.CloudTime != nil {
		*g.CloudTime += (e.Estimate.CloudTime - *g.CloudTime) / n
	}
}

// write prints the counts, ordered by class and then by number of tasks.
func (s *summary) write(out io.Writer, asJSON bool) error {
	s.Groups = slices.SortedFunc(maps.Values(s.byKey), func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(b.Tasks, a.Tasks), cmp.Compare(a.Target+a.Reason+a.Policy, b.Target+b.Reason+b.Policy))
	})
	if asJSON {
		return writeJSON(out, s)
	}
	fmt.Fprintf(out, "policy %s\n%s, %s: %s local, %s to the cloud\n", s.Policy, several(s.Events, "event"), several(s.Tasks, "task"), count(s.Tasks-s.Cloud), count(s.Cloud))
	if n := status.Sum(s.Rejected); n > 0 {
		fmt.Fprintf(out, "rejected as invalid: %s (%s)\n", count(n), byReason(s.Rejected))
	}
	if n := status.Sum(s.Skipped); n > 0 {
		fmt.Fprintf(out, "skipped as results: %s (%s)\n", count(n), byReason(s.Skipped))
	}
	if len(s.Groups) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	t := newTable(out, "CLASS", "POLICY", "TARGET", "REASON", "TASKS", "DATA", "SCORE", "LOCAL", "CLOUD")
	for _, g := range s.Groups {
		cloud := "out of reach"
		if g.CloudTime != nil {
			cloud = duration(*g.CloudTime)
		}
		t.row(g.Class, g.Policy, g.Target, g.Reason, count(g.Tasks), size(float64(g.Bytes)), fmt.Sprintf("%.2f", g.Score), duration(g.LocalTime), cloud)
	}
	return t.end()
}

// byReason writes counts by name and omits zeros: "expired 3, full 1".
func byReason[T int64 | uint64](counts map[string]T) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if counts[reason] != 0 {
			parts = append(parts, reason+" "+count(counts[reason]))
		}
	}
	return strings.Join(parts, ", ")
}

// one is the JSON line of a decided task. Times are in s; null means that the target is unreachable.
type one struct {
	EventID     string   `json:"eventId"`
	Chunk       int      `json:"chunk"`
	Of          int      `json:"of"`
	Device      string   `json:"device"`
	Class       string   `json:"class"`
	Size        int      `json:"size"`
	Target      string   `json:"target"`
	Score       float64  `json:"score"`
	Policy      string   `json:"policy"`
	Reason      string   `json:"reason"`
	LocalTime   float64  `json:"localTime"`
	CloudTime   *float64 `json:"cloudTime"`
	Explanation string   `json:"explanation"`
}

// writeOne prints one decision.
func writeOne(w io.Writer, e decision.Entry, asJSON bool) error {
	text := decision.Explain(e)
	if !asJSON {
		_, err := fmt.Fprintf(w, "%s\n", clean(fmt.Sprintf("%s  %s %d/%d  %s  %s", e.Decision.Target, e.Device, e.Chunk+1, e.Of, e.Class, text)))
		return err
	}
	line := one{
		EventID: e.EventID, Chunk: e.Chunk, Of: e.Of, Device: e.Device, Class: e.Class, Size: e.Size, Target: e.Decision.Target.String(),
		Score: e.Decision.Score, Policy: e.Policy, Reason: e.Decision.Reason.String(), LocalTime: e.Estimate.LocalTime, Explanation: text,
	}
	if !math.IsInf(e.Estimate.CloudTime, 0) {
		line.CloudTime = &e.Estimate.CloudTime
	}
	return writeLine(w, line)
}

func writeLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
