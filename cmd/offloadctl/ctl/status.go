package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"app-offload/functions/status"
)

// view is a status with its words for people.
type view struct{ status.Status }

func statusVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("status", "the service's whole answer as JSON")
	acknowledge := fs.Bool("acknowledge", false, "acknowledge all tasks dropped so far, so that they are no reason to worry any more")
	watch := fs.Bool("watch", false, "show it again and again, until interrupted")
	every := fs.Duration("every", 2*time.Second, "how often, with -watch")
	err := fs.parseOnly(args, "status takes no arguments")
	switch {
	case err != nil:
		return err
	case *every < 100*time.Millisecond:
		return fs.misused("-every %v: must be at least 100ms", *every)
	}
	c, err := fs.api.client(sh)
	if err != nil {
		return err
	}
	if *acknowledge {
		if err := acknowledgeDrops(ctx, c, sh.err); err != nil {
			return err
		}
	}
	if *watch {
		return watchStatus(ctx, sh, c, *every, *fs.asJSON)
	}
	return showStatus(ctx, c, sh.out, *fs.asJSON)
}

// acknowledgeDrops marks dropped tasks as seen, in the service.
func acknowledgeDrops(ctx context.Context, c *client, say io.Writer) error {
	var answer struct {
		Acknowledged uint64 `json:"acknowledged"`
	}
	if err := c.do(ctx, http.MethodPost, "/drops/acknowledge", struct{}{}, &answer); err != nil {
		return err
	}
	_, err := fmt.Fprintf(say, "%s dropped tasks acknowledged\n", count(answer.Acknowledged))
	return err
}

// showStatus asks once. A service that is not ready is an error of its own, after it was shown.
func showStatus(ctx context.Context, c *client, out io.Writer, asJSON bool) error {
	var s view
	err := c.answer(ctx, http.MethodGet, "/status", nil, out, asJSON, &s.Status)
	if err == nil && !asJSON {
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
	tick := time.Tick(every)
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
		case <-tick:
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
		count(c.Receipted), count(c.Spooled), count(status.Sum(c.Dropped)), count(c.Balance))
	line("         in flight %s, not yet accepted; batches on their way %d", count(c.InFlight), s.Export.Inflight)
	line("events   received %s, refused %s, quarantined %s", count(s.Events.Received), count(status.Sum(s.Events.Refused)), count(status.Sum(s.Events.Quarantined)))
	line("node     %s", s.vitals())
	line("service  up %s, %s in memory, %d goroutines, configuration %s", age(s.Process.Uptime), size(float64(s.Process.RSS)),
		s.Process.Goroutines, s.Configuration.Version)
	line("version  %s, commit %s", s.Version, s.Commit)
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
	text := fmt.Sprintf("spool %s full, %s of %s MiB, %s", percent(s.Spool.Fill*100), mib(s.Spool.Bytes), count(s.Spool.Limit>>20), several(s.Spool.Tasks, "task"))
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
	text := fmt.Sprintf("CPU %s of %d cores, memory %s, %s waiting for a local worker", percent(n.CPU), n.Cores, percent(n.Memory), several(n.QueueTasks, "task"))
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

// age writes a time in seconds as people say it: 0 s, 48 s, 12 min, 3 h, 9 days.
func age(seconds float64) string {
	switch s := max(seconds, 0); {
	case s < 100:
		return fmt.Sprintf("%.0f s", s)
	case s < 100*60:
		return fmt.Sprintf("%.0f min", s/60)
	case s < 72*3600:
		return fmt.Sprintf("%.0f h", s/3600)
	default:
		return fmt.Sprintf("%.0f days", s/86400)
	}
}

// duration writes a short time in seconds with the unit that suits it; what is not finite never ends.
func duration(seconds float64) string {
	switch abs := math.Abs(seconds); {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return "never"
	case abs > 0 && abs < 0.001:
		return fmt.Sprintf("%.3g µs", seconds*1e6)
	case abs < 1:
		return fmt.Sprintf("%.1f ms", seconds*1e3)
	case abs < 100:
		return fmt.Sprintf("%.2f s", seconds)
	}
	return age(seconds)
}

// size writes bytes with a unit of 1,024.
func size(bytes float64) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%.0f B", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", bytes/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MiB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", bytes/(1<<30))
}

// count writes a whole number with its thousands apart: 1,234,567.
func count[T int | int64 | uint64](n T) string {
	text := strconv.FormatFloat(float64(n), 'f', 0, 64)
	digits := strings.TrimPrefix(text, "-")
	sign := text[:len(text)-len(digits)]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// several is a number with its noun: 1 task, 2 tasks.
func several[T int | int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// percent writes what is given in percent, and rounds it neither to nothing nor to all of it where it is neither.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.5:
		return "under 1 %"
	case p >= 99.5 && p < 100:
		return "over 99 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}

// table writes rows under a head; the columns that right says hold numbers.
type table struct {
	w *tabwriter.Writer
}

func newTable(out io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row adds a row. What does not work is told by end.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = clean(c)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) end() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// oneLine joins the lines of a problem that has several.
func oneLine(s string) string {
	return strings.NewReplacer(":\n", ": ", "\n", "; ").Replace(strings.TrimSpace(s))
}

// clean keeps names that came from outside from moving the cursor of the operator's terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}
