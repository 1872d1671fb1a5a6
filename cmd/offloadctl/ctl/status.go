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

// view formats a status for people.
type view struct{ status.Status }

func statusVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("status", "the service's whole answer as JSON")
	acknowledge := fs.Bool("acknowledge", false, "acknowledge all tasks dropped so far: they no longer degrade the health")
	watch := fs.Bool("watch", false, "repeat until interrupted")
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

// acknowledgeDrops acknowledges the dropped tasks in the service.
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

// showStatus requests and prints the status once. It returns errNotReady, after printing, if the service is not ready.
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

// clearScreen moves the cursor to the top left and erases a terminal.
const clearScreen = "\x1b[H\x1b[2J"

// watchStatus shows the status until ctx ends. It also shows errors and goes on: the service may be restarting.
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
		word += ", degraded"
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
	line("         in flight %s, not yet accepted; batches in flight %d", count(c.InFlight), s.Export.Inflight)
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

// spool is the line about the spool: "spool n of m MiB, k tasks, oldest 3 h".
func (s *view) spool() string {
	text := fmt.Sprintf("spool %s full, %s of %s MiB, %s", percent(s.Spool.Fill*100), mib(s.Spool.Bytes), count(s.Spool.Limit>>20), several(s.Spool.Tasks, "task"))
	if s.Spool.Tasks > 0 {
		text += ", oldest " + age(s.Spool.OldestAge)
	}
	if s.Undecided.Tasks > 0 {
		text += ", " + count(s.Undecided.Tasks) + " of them parked"
	}
	return text
}

// mib formats whole MiB, and "under 1" for a smaller amount above 0.
func mib(bytes int64) string {
	if bytes > 0 && bytes < 1<<20 {
		return "under 1"
	}
	return count(bytes >> 20)
}

func (s *view) link() string {
	l := &s.Link
	if !l.Up {
		return "DOWN; tasks for the cloud wait in the spool"
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
	if n.Temperature == n.Temperature { // not NaN: there is a sensor
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

// age formats a time in seconds with a suitable unit: 0 s, 48 s, 12 min, 3 h, 9 days.
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

// duration formats a short time in seconds with a suitable unit; "never" if it is not finite.
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

// size formats bytes with binary units.
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

// count formats an integer with thousands separators: 1,234,567.
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

// percent formats a percentage; only exactly 0 and 100 are shown as such.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.5:
		return "under 1 %"
	case p >= 99.5 && p < 100:
		return "over 99 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}

// table writes aligned rows below a head.
type table struct {
	w *tabwriter.Writer
}

func newTable(out io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row adds a row. end returns the write error.
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

// oneLine joins the lines of a problem.
func oneLine(s string) string {
	return strings.NewReplacer(":\n", ": ", "\n", "; ").Replace(strings.TrimSpace(s))
}

// clean replaces control characters in names from outside: they could move the cursor of the operator's terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}
