// Package faults breaks the whole system, over and over, and checks that it keeps its promises.
//
// The system is the real one: two mosquitto brokers, one as MessageBus and one in the cloud, app-offload and
// offload-cloud as processes, and a proxy as the link between app-offload and the broker in the cloud. Its policy is
// cloud, so that every event has to arrive in the consumer's database. While events pour in at QoS 1, a round does one
// thing of the list in kinds.go at a random moment. Every few rounds the faults stop and all is checked. These are the
// invariants:
//
//  1. Nothing is lost. Every event that the MessageBus has acknowledged to its publisher is in the consumer's database
//     after the faults stop, complete if it was cut into chunks, and byte for byte what was published if it was not.
//     Nothing is dropped for any reason, no sequence is a gap and no message is a dead letter.
//  2. Nothing is doubled. The database holds no task twice, and no (node, epoch, sequence) twice; restarts keep the epoch.
//  3. The account balances: whenever app-offload is asked, also while events are under way and right after a restart, the
//     balance is 0; what it has accepted once it has accepted for ever; and when all has arrived, its spool is empty.
//  4. Order is kept: of events that are published and stored between two faults, those of one device are stored in the
//     order in which they were published.
//  5. Memory and goroutines of both processes are bounded, and at rest they are what they were at rest before.
//  6. Neither process ends by itself, and both end when they are asked to.
//  7. With workers (kind kill-work), every event has one answer on the MessageBus. It may be seen again with the same id, where app-offload
//     was killed between its publish and the note of it.
//
// Beside the rounds there are scenarios: one situation that lasts, such as a broker that hangs for ten minutes. Each says
// above its function what is asked of it, and the invariants above hold as well, but for what a scenario drops by intention
// and accounts for in another way.
//
// What the harness may do to the parts is what happens to them in the field. The MessageBus is therefore ended in an
// orderly way only: a mosquitto that is killed loses the messages it has not yet written to disk, whatever its
// subscribers do. The broker in the cloud is killed, since receipts are there to survive that.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/cmd/offload-lab/internal/stack"
)

// Config says what to break, and how often.
type Config struct {
	Bin, Res   string // folders with the binaries and with configuration.yaml
	Dir        string // folder for everything that is written
	Seed       uint64
	Rounds     int      // at least so many,
	EdgeKills  int      // until app-offload was killed so often
	CloudKills int      // and offload-cloud so often,
	KillRounds int      // and so many rounds have killed one of them
	Quick      bool     // short rounds, most of which kill, where nothing else is asked for
	Kinds      []string // what to draw from; a kind that is named twice comes twice as often
	Rate       float64  // events a second
	CheckEvery int      // rounds between two checks
	Out        io.Writer

	pace     time.Duration // tests play this many times faster
	postgres bool          // holds the consumer's database
	work     bool          // every event is answered in the cloud
}

// Validate finds what makes no sense, before anything is started.
func (c *Config) Validate() error {
	_, err := chosen(c.Kinds)
	if !(c.Rate >= 0) || math.IsInf(c.Rate, 1) {
		err = errors.Join(err, fmt.Errorf("-rate %g: must be a number of at least 0, such as 200", c.Rate))
	}
	if c.CheckEvery <= 0 {
		err = errors.Join(err, fmt.Errorf("-check %d: must be above 0, such as 10", c.CheckEvery))
	}
	if least := min(c.Rounds, c.EdgeKills, c.CloudKills, c.KillRounds); least < 0 {
		err = errors.Join(err, fmt.Errorf("%d: -rounds, -edge-kills, -cloud-kills and -kill-rounds must not be below 0", least))
	}
	return err
}

// Kills counts processes ended by SIGKILL.
type Kills struct {
	Edge  int `json:"edge"`
	Cloud int `json:"cloud"`
}

// Report is what came of it.
type Report struct {
	Seed         uint64         `json:"seed"`
	Rounds       int            `json:"rounds"`
	KillRounds   int            `json:"killRounds"` // those that killed app-offload, offload-cloud or both
	Kills        Kills          `json:"kills"`
	Faults       map[string]int `json:"faults"`   // rounds, by kind
	Accepted     int            `json:"accepted"` // events that the MessageBus has acknowledged
	Stored       int            `json:"stored"`   // tasks in the database
	Again        int64          `json:"again"`    // records and tasks that came again, and were recognised
	Lost         int            `json:"lost"`     // events of Accepted that are not in the database, or not complete
	Doubled      int            `json:"doubled"`  // tasks and sequences that are in the database more than once
	Ordered      int            `json:"ordered"`  // events whose order was checked
	OutOfOrder   int            `json:"outOfOrder"`
	Asked        int            `json:"asked"`                  // how often the account was asked for
	Answers      int            `json:"answers,omitempty"`      // events that the cloud has answered on the MessageBus
	AnswersAgain int            `json:"answersAgain,omitempty"` // answers that were seen more than once there, with one id
	Edge         Bounds         `json:"edge"`
	Cloud        Bounds         `json:"cloud"`
	Violations   []string       `json:"violations,omitempty"`
}

// Bounds are the largest figures that were seen of a process.
type Bounds struct {
	RSS        int64   `json:"rss"` // bytes
	Goroutines int     `json:"goroutines"`
	Start      float64 `json:"start"` // s, until it was ready
	Stop       float64 `json:"stop"`  // s, after SIGTERM
}

// Run does the rounds. Its error says which invariants do not hold, or why that could not be found out; the report is of
// use either way.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Quick && len(cfg.Kinds) == 0 {
		cfg.Kinds = quickKinds()
	}
	list, err := chosen(cfg.Kinds)
	if err == nil {
		list, err = within(list, cfg.Out)
	}
	if err != nil {
		return nil, err
	}
	cfg.work = drawn(list, killsWork)
	cfg.postgres = drawn(list, hung) || cfg.work && cfg.Seed%2 == 1 && databaseHere() // an even seed has workers in the consumer's process, on SQLite
	s := &system{
		cfg: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 0)), began: time.Now(),
		report: &Report{Seed: cfg.Seed, Faults: map[string]int{}},
	}
	if drawn(list, "clock") {
		err = s.buildStepped(ctx)
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err == nil {
		err = s.rounds(ctx, list)
	}
	if err == nil {
		err = s.finish(ctx)
	}
	s.report.Accepted = s.publisher.accepted()
	return s.report, errors.Join(err, s.close(), s.verdict())
}

// finish checks for the last time and ends it all.
func (s *system) finish(ctx context.Context) error {
	return inTurn(ctx, s.check, then(s.publisher.stop), s.arrived, s.leave)
}

// databaseHere reports whether a PostgreSQL server can be started on this machine.
func databaseHere() bool {
	_, err := postgres.Programs()
	return err == nil
}

func drawn(list []kind, name string) bool {
	return slices.ContainsFunc(list, func(k kind) bool { return k.name == name })
}

// within leaves out what cannot be done on this machine, and says so. It is an error if nothing is left.
func within(list []kind, out io.Writer) ([]kind, error) {
	if _, err := postgres.Programs(); err != nil {
		left := slices.DeleteFunc(list, func(k kind) bool { return k.name == hung })
		if len(left) == 0 {
			return nil, fmt.Errorf("kind %s: %w", hung, err)
		}
		if len(left) < len(list) {
			fmt.Fprintf(out, "kind %s is left out: %v\n", hung, err)
		}
		return left, nil
	}
	return list, nil
}

// rounds breaks things until all that was asked for is done.
func (s *system) rounds(ctx context.Context, list []kind) error {
	for s.left() {
		if err := s.pausing(time.Second)(ctx); err != nil {
			return err
		}
		k := list[s.random.IntN(len(list))]
		s.report.Rounds++
		s.report.Faults[k.name]++
		if strings.HasPrefix(k.name, "kill-") {
			s.report.KillRounds++
		}
		begin := time.Now()
		if err := k.strike(s, ctx); err != nil {
			return fmt.Errorf("round %d, %s: %w", s.report.Rounds, k.name, err)
		}
		s.line(k.name, time.Since(begin))
		if s.report.Rounds%s.cfg.CheckEvery == 0 {
			if err := s.check(ctx); err != nil {
				return fmt.Errorf("after round %d: %w", s.report.Rounds, err)
			}
		}
	}
	return nil
}

func (s *system) left() bool {
	r := s.report
	return r.Rounds < s.cfg.Rounds || r.KillRounds < s.cfg.KillRounds || r.Kills.Edge < s.cfg.EdgeKills || r.Kills.Cloud < s.cfg.CloudKills
}

func (s *system) line(name string, took time.Duration) {
	fmt.Fprintf(s.cfg.Out, "%6.0fs  round %d  %-10s %6.2fs  kills %d+%d  acknowledged %d  stored %d  violations %d\n",
		time.Since(s.began).Seconds(), s.report.Rounds, name, took.Seconds(), s.report.Kills.Edge, s.report.Kills.Cloud,
		s.publisher.accepted(), s.database.rows, len(s.violations()))
}

// verdict is an error if an invariant does not hold.
func (s *system) verdict() error {
	s.report.Violations = s.violations()
	if len(s.report.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations, the first: %s", len(s.report.Violations), s.report.Violations[0])
}

// violate notes that an invariant does not hold, and says so at once. It may be called from several goroutines.
func (s *system) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrongs) < maxViolations {
		s.wrongs = append(s.wrongs, text)
		fmt.Fprintf(s.cfg.Out, "%6.0fs  VIOLATION %s\n", time.Since(s.began).Seconds(), text)
	}
}

// maxViolations bounds the list: what breaks once mostly breaks again.
const maxViolations = 100

func (s *system) violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.wrongs...)
}

// Folder makes the folder of a run where none is named.
func Folder(dir string) (string, error) {
	if dir != "" {
		return dir, os.MkdirAll(dir, 0o750)
	}
	dir, err := os.MkdirTemp("", "offload-faults-")
	if err != nil {
		return "", fmt.Errorf("making a folder for the run: %w", err)
	}
	return dir, nil
}

// stretch is how many events are published undisturbed in a check.
const stretch = 150

// check stops the faults and holds the system to its invariants, then publishes a stretch that nothing disturbs.
func (s *system) check(ctx context.Context) error {
	return inTurn(ctx, s.heal, s.quietly(s.arrived, s.inOrder(stretch, s.publishing(stretch, time.Millisecond)), s.compare))
}

// arrived waits until every acknowledged event is in the database and the spool is empty. It gives up when nothing moves
// any more.
func (s *system) arrived(ctx context.Context) error {
	want := s.publisher.accepted()
	err := s.advancing(ctx, func() (bool, int, error) {
		err := s.database.read(ctx)
		return s.database.complete >= want && s.database.awaited() == 0, s.database.rows, err
	})
	s.report.Stored, s.report.Doubled = s.database.rows, s.database.doubled
	if errors.Is(err, errStuck) {
		return s.lost(ctx, want)
	}
	if err != nil {
		return err
	}
	left := int64(0)
	err = s.advancing(ctx, func() (bool, int, error) {
		st, err := s.ask(ctx)
		if err == nil {
			left = st.Counts.Spooled + st.Counts.InFlight
		}
		return err == nil && left == 0, int(left), nil
	})
	if errors.Is(err, errStuck) {
		s.violate("all has arrived, and %d tasks are still in the spool: %s", left, s.status(ctx))
	}
	return errors.Join(err, s.answered(ctx, want))
}

var errStuck = errors.New("nothing moves any more")

// advancing asks until something is done, and gives up when a figure stands still for too long.
func (s *system) advancing(ctx context.Context, ask func() (done bool, figure int, err error)) error {
	last, since := -1, time.Now()
	for {
		done, figure, err := ask()
		if done || err != nil {
			return err
		}
		if figure != last {
			last, since = figure, time.Now()
		}
		if time.Since(since) > patience {
			return errStuck
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lost says which events are missing, and what each part knows of them.
func (s *system) lost(ctx context.Context, want int) error {
	missing := s.database.missing(want)
	s.report.Lost = len(missing) + s.database.awaited()
	shown := missing[:min(len(missing), 20)]
	ids := make([]string, len(shown))
	for i, n := range shown {
		ids[i] = s.publisher.id(n)
	}
	s.violate("%d of %d events are missing, and %d special ones, events %v with ids %v; the consumer knows %s; app-offload says %s",
		len(missing), want, s.database.awaited(), shown, ids, s.stats(ctx), s.status(ctx))
	return fmt.Errorf("%d events are lost", s.report.Lost)
}

// status is all that app-offload says of itself.
func (s *system) status(ctx context.Context) string {
	var raw json.RawMessage
	if err := s.edge.Load().Get(ctx, "/status", &raw); err != nil {
		return err.Error()
	}
	return string(raw)
}

// stats asks the consumer's own command, one line a node.
func (s *system) stats(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, filepath.Join(s.cfg.Bin, "offload-cloud"), "stats", "-json", "-store", s.store).Output() // #nosec G204 -- our own binary
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(out))
}

// leave ends both processes, once all has arrived, and looks at what they leave behind.
func (s *system) leave(ctx context.Context) error {
	s.stopWatch()
	if err := s.stopEdge(ctx); err != nil {
		s.violate("the end of app-offload: %v", err)
	}
	if err := s.stopCloud(ctx); err != nil {
		s.violate("the end of offload-cloud: %v", err)
	}
	if c, err := s.edge.Load().FinalCounts(); err != nil {
		s.violate("the account that app-offload left: %v", err)
	} else {
		s.checkAccount(c)
	}
	return s.inspect(ctx)
}

// checkAccount looks at the account that app-offload left.
func (s *system) checkAccount(c stack.Counts) {
	if c.Balance != 0 || c.InFlight != 0 || c.Spooled != 0 || c.Accepted < s.accepted || (len(c.Dropped) > 0 && !s.drops) {
		s.violate("the account that app-offload left, of at least %d accepted: %s", s.accepted, text(c))
	}
}

func (s *system) stopCloud(context.Context) error {
	begin := time.Now()
	err := s.cloud.Stop(patience / 3)
	s.report.Cloud.Stop = max(s.report.Cloud.Stop, time.Since(begin).Seconds())
	return err
}

// inspect looks at the whole database once more.
func (s *system) inspect(ctx context.Context) error {
	if err := s.database.read(ctx); err != nil {
		return err
	}
	tasks, places, epochs, err := s.database.again(ctx)
	if err != nil {
		return err
	}
	s.report.Stored, s.report.Doubled = s.database.rows, max(s.database.doubled, tasks+places)
	if tasks+places > 0 || epochs < 1 || epochs > 1+s.restored {
		s.violate("the database holds %d tasks and %d sequences twice, and %d epochs", tasks, places, epochs)
	}
	return s.checkStats(strings.NewReader(s.stats(ctx)))
}

// checkStats looks at what the consumer says of each node.
func (s *system) checkStats(lines io.Reader) error {
	for decoder := json.NewDecoder(lines); ; {
		var n struct {
			DuplicateRecords, DuplicateTasks, Gaps, DeadLetters int64
			Gone                                                map[string]int64
		}
		if err := decoder.Decode(&n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading what offload-cloud stats prints: %w", err)
		}
		s.report.Again += n.DuplicateRecords + n.DuplicateTasks
		delete(n.Gone, "skipped") // numbers that a crash left without a record: nothing was ever accepted under them
		if s.restored > 0 {       // what a copy of the spool repeats under other content is set aside, until it comes under a new epoch
			delete(n.Gone, "done")
			n.DeadLetters = 0
		}
		if n.Gaps != 0 || n.DeadLetters > s.garbage || (len(n.Gone) != 0 && !s.drops) {
			s.violate("the consumer has gaps, dead letters or records that are gone: %s", text(n))
		}
	}
}
