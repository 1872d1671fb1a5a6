package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"app-offload/functions/status"
)

var statusManual = manual{
	name: "status", arguments: "[flags]",
	purpose: `
  Shows on one screen whether the service is ready or why not, its spool, its link, where the tasks went, and whether the
  account adds up: accepted = local + receipted + spooled + dropped, with balance 0. Lines that begin with ! are what somebody
  should do something about, the most urgent first, since when; those with · are notes. They are the same as on the page, in /ready
  and in the metrics.
`,
	examples: `
  offloadctl status
  offloadctl status -watch                                 again and again, until Ctrl-C
  offloadctl status -acknowledge                           somebody knows of the tasks dropped so far
  offloadctl status -url http://gateway-7:59740
  offloadctl status -token-file jwt                        in secure mode
  offloadctl status -json | jq .counts
  offloadctl status >/dev/null || echo not ready           for scripts, by the exit code
`,
	files:       noFiles,
	environment: apiEnvironment,
	exits: `
  0 the service is ready; 1 no answer, or it refused; 2 wrong usage; 3 it answers, but takes no events now: the reasons are shown
`,
}

// view is a status with its words for people.
type view struct{ status.Status }

func statusVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.flags(statusManual)
	var api apiFlags
	api.register(fs.FlagSet)
	asJSON := fs.Bool("json", false, "the service's whole answer as JSON")
	acknowledge := fs.Bool("acknowledge", false, "acknowledge all tasks dropped so far, so that they are no reason to worry any more")
	watch := fs.Bool("watch", false, "show it again and again, until interrupted")
	every := fs.Duration("every", 2*time.Second, "how often, with -watch")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: status takes no arguments", rest[0])
	case *every < 100*time.Millisecond:
		return fs.misused("-every %v: must be at least 100ms", *every)
	}
	c, err := api.client(sh)
	if err != nil {
		return err
	}
	if *acknowledge {
		if err := acknowledgeDrops(ctx, c, sh.err); err != nil {
			return err
		}
	}
	if *watch {
		return watchStatus(ctx, sh, c, *every, *asJSON)
	}
	return showStatus(ctx, c, sh.out, *asJSON)
}

// acknowledgeDrops marks dropped tasks as seen, in the service.
func acknowledgeDrops(ctx context.Context, c *client, say io.Writer) error {
	var answer struct {
		Acknowledged uint64 `json:"acknowledged"`
	}
	if err := c.post(ctx, "/drops/acknowledge", struct{}{}, &answer); err != nil {
		return err
	}
	_, err := fmt.Fprintf(say, "%s dropped tasks acknowledged\n", count(answer.Acknowledged))
	return err
}

// showStatus asks once. A service that is not ready is an error of its own, after it was shown.
func showStatus(ctx context.Context, c *client, out io.Writer, asJSON bool) error {
	var raw json.RawMessage
	if err := c.get(ctx, "/status", &raw); err != nil {
		return err
	}
	var s view
	if err := json.Unmarshal(raw, &s.Status); err != nil {
		return fmt.Errorf("the status is not what this version of offloadctl knows: %w", err)
	}
	var err error
	if asJSON {
		err = writeRaw(out, raw)
	} else {
		_, err = io.WriteString(out, s.screen())
	}
	if err == nil && !s.Ready {
		err = errNotReady
	}
	return err
}

// clearScreen moves to the top left and erases, on a terminal.
const clearScreen = "\x1b[H\x1b[2J"

// watchStatus shows the status until ctx ends. A service that does not answer may be on its way back, so that is shown too.
func watchStatus(ctx context.Context, sh *shell, c *client, every time.Duration, asJSON bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var b strings.Builder
		err := showStatus(ctx, c, &b, asJSON)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, errNotReady) {
			fmt.Fprintf(&b, "%s  no answer: %v\n", sh.now().Format(time.TimeOnly), err)
		}
		if sh.terminal {
			b.WriteString("\nCtrl-C ends.\n")
			fmt.Fprint(sh.out, clearScreen)
		}
		if _, err := io.WriteString(sh.out, b.String()); err != nil {
			return fmt.Errorf("writing the status: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// screen is the status for people.
func (s *view) screen() string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(clean(fmt.Sprintf(format, args...)) + "\n") }
	word := "ready"
	if s.Health.State == status.Degraded {
		word += ", with reasons to look at it"
	}
	if !s.Ready {
		word = "NOT READY: " + strings.Join(s.NotReady, "; ")
	}
	line("node %s  %s", s.NodeName, word)
	line("%s", s.spool())
	line("link %s", s.link())
	line("policy %s", s.Policy)
	b.WriteByte('\n')
	c := &s.Counts
	line("tasks    accepted %s = local %s + receipted %s + spooled %s + dropped %s; balance %s", count(c.Accepted), count(c.Local),
		count(c.Receipted), count(c.Spooled), count(sum(c.Dropped)), count(c.Balance))
	line("         in flight %s, not yet accepted; batches on their way %d", count(c.InFlight), s.Export.Inflight)
	line("events   received %s, refused %s, quarantined %s", count(s.Events.Received), count(sum(s.Events.Refused)), count(sum(s.Events.Quarantined)))
	line("node     %s", s.vitals())
	line("service  up %s, %s in memory, %d goroutines, configuration %s", age(s.Process.Uptime), size(float64(s.Process.RSS)),
		s.Process.Goroutines, s.Configuration.Version)
	if s.Version != "" {
		line("version  %s, commit %s", s.Version, s.Commit)
	}
	if s.Health.State == "" { // a service older than this tool
		for _, w := range s.worries() {
			line("! %s", w)
		}
		return b.String()
	}
	for _, r := range s.Health.Reasons {
		mark := "!"
		if r.Severity == status.Note {
			mark = "·"
		}
		line("%s %s; since %s", mark, oneLine(r.Text), r.Since.Local().Format(time.DateTime))
	}
	return b.String()
}

// spool is the one line that says whether to worry: "spool n of m MiB, k tasks, oldest 3 h".
func (s *view) spool() string {
	text := fmt.Sprintf("spool %s full, %s of %s MiB, %s tasks", percent(s.Spool.Fill*100), mib(s.Spool.Bytes), count(s.Spool.Limit>>20), count(s.Spool.Tasks))
	if s.Spool.Limit == 0 { // a service older than this tool
		text = fmt.Sprintf("spool %s of %s MiB, %s tasks", mib(s.Spool.Bytes), count(s.Spool.Quota>>20), count(s.Spool.Tasks))
	}
	if s.Spool.Tasks > 0 {
		text += ", oldest " + age(s.Spool.OldestAge)
	}
	if s.Undecided.Tasks > 0 {
		text += ", " + count(s.Undecided.Tasks) + " of them undecided"
	}
	return text
}

// mib writes whole MiB, but never 0 for something.
func mib(bytes int64) string {
	if bytes > 0 && bytes < 1<<20 {
		return "under 1"
	}
	return count(bytes >> 20)
}

func (s *view) link() string {
	l := &s.Link
	if !l.Up {
		return "DOWN; what is to leave waits in the spool"
	}
	text := "up"
	if l.Goodput > 0 {
		text += ", " + size(l.Goodput) + "/s"
	}
	if l.RTT > 0 {
		text += fmt.Sprintf(", round trip %s (95 %% within %s)", duration(l.RTT), duration(l.RTT95))
	}
	return text
}

func (s *view) vitals() string {
	n := &s.Node
	text := fmt.Sprintf("CPU %s of %d cores, memory %s, %s tasks wait for a local worker", percent(n.CPU), n.Cores, percent(n.Memory), count(n.QueueTasks))
	if n.Temperature == n.Temperature { // is not NaN, so there is a sensor
		text += fmt.Sprintf(", %.0f °C", n.Temperature)
	}
	if n.Watts == n.Watts {
		text += fmt.Sprintf(", %.1f W", n.Watts)
	}
	if n.OnBattery {
		text += fmt.Sprintf(", on battery (%s)", percent(n.Battery))
	}
	return text
}

// worries is, for a service that gives no reasons itself, what an operator should do something about, most urgent first.
func (s *view) worries() []string {
	var w []string
	add := func(found bool, format string, args ...any) {
		if found {
			w = append(w, fmt.Sprintf(format, args...))
		}
	}
	add(s.Counts.Balance != 0, "the account does not add up, by %s tasks: a defect; please report it with `offloadctl status -json`", count(s.Counts.Balance))
	add(s.Spool.Problem != "", "spool: %s", s.Spool.Problem)
	add(s.Spool.Damaged > 0, "spool: %s damaged places were found and quarantined; `offloadctl spool inspect` lists them", count(s.Spool.Damaged))
	add(s.Configuration.Problem != "", "the last change of the configuration was refused: %s", oneLine(s.Configuration.Problem))
	add(s.Export.ReceiptsSilent, "the broker acknowledges batches, but no receipts come: is offload-cloud running, and reading this broker?")
	add(sum(s.Counts.Dropped) > 0, "dropped: %s", byReason(s.Counts.Dropped))
	add(sum(s.Events.Refused) > 0, "events refused at the gate: %s", byReason(s.Events.Refused))
	add(s.Events.Returned > 0, "%s tasks were given back to the MessageBus, as nothing here could take them", count(s.Events.Returned))
	add(sum(s.Events.Quarantined) > 0, "quarantined, as they were no events: %s; see GET %s/quarantine", byReason(s.Events.Quarantined), apiBase)
	return w
}
