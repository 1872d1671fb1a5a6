// Package faults repeatedly breaks the whole system and checks that it keeps its guarantees.
//
// The system is the real one: two mosquitto brokers, one as MessageBus and one in the cloud, app-offload and offload-cloud as processes, and a proxy
// as the link between app-offload and the broker in the cloud. Its policy is cloud, so that every event must arrive in the consumer's database. While
// events arrive at QoS 1, each round injects one fault of the list in kinds.go at a random moment. Every few rounds the faults stop and everything is
// checked. These are the invariants:
//
//  1. Nothing is lost. After the faults stop, every event that the MessageBus has acknowledged to its publisher is in the consumer's database:
//     complete if it was cut into chunks, otherwise byte for byte. Nothing is dropped, no sequence is a gap and no message is a dead letter.
//  2. Nothing is duplicated. The database holds no task twice, and no (node, epoch, sequence) twice; restarts keep the epoch.
//  3. The account balances: the balance is 0 at every query, also with events in flight and right after a restart; the number of accepted tasks never
//     decreases; and after everything has arrived, the spool is empty.
//  4. Order is kept: events of one device that are published and stored between two faults are stored in the order of publication.
//  5. Memory and goroutines of both processes are bounded, and at rest they return to their first values at rest.
//  6. Neither process exits unexpectedly, and both stop on request.
//  7. With workers (kind kill-work), every event has one answer on the MessageBus. It may appear again with the same id if app-offload was killed
//     between its publish and its record.
//
// Besides rounds there are scenarios: one lasting fault, such as a broker that hangs for ten minutes. The comment of each scenario's function lists
// its requirements; the invariants above apply as well, except for drops that a scenario intends and accounts for otherwise.
//
// The harness only injects faults that occur in the field. It therefore stops the MessageBus only in an orderly way: a killed mosquitto loses
// messages that it has not yet written to disk, regardless of its subscribers. It does kill the broker in the cloud, since receipts exist to survive
// that.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/cmd/offload-lab/internal/stack"
)

// Config selects the faults and their number.
type Config struct {
	Bin, Res   string // folders with the binaries and with configuration.yaml
	Dir        string // folder for all files
	Seed       uint64
	Rounds     int      // minimum number of rounds
	EdgeKills  int      // minimum kills of app-offload
	CloudKills int      // minimum kills of offload-cloud
	KillRounds int      // minimum number of rounds that killed one of them
	Quick      bool     // short rounds, mostly kills unless Kinds is set
	Kinds      []string // kinds to draw from; a repeated kind is drawn more often
	Rate       float64  // events per second
	CheckEvery int      // rounds between two checks
	Out        io.Writer

	pace     time.Duration // factor by which tests run faster
	postgres bool          // the consumer's database is PostgreSQL
	work     bool          // the cloud answers every event
}

// Validate checks the configuration.
func (c *Config) Validate() error {
	_, err := chosen(c.Kinds)
	if !(c.Rate >= 0 && c.Rate <= 1e6) {
		err = errors.Join(err, fmt.Errorf("-rate %g: must be within 0 and 1000000, such as 200", c.Rate))
	}
	if c.CheckEvery <= 0 {
		err = errors.Join(err, fmt.Errorf("-check %d: must be above 0, such as 10", c.CheckEvery))
	}
	if least := min(c.Rounds, c.EdgeKills, c.CloudKills, c.KillRounds); least < 0 {
		err = errors.Join(err, fmt.Errorf("%d: -rounds, -edge-kills, -cloud-kills and -kill-rounds must not be below 0", least))
	}
	return err
}

// Kills counts processes killed by SIGKILL.
type Kills struct {
	Edge  int `json:"edge"`
	Cloud int `json:"cloud"`
}

// Report is the result of a run.
type Report struct {
	Seed         uint64         `json:"seed"`
	Rounds       int            `json:"rounds"`
	KillRounds   int            `json:"killRounds"` // rounds that killed app-offload, offload-cloud or both
	Kills        Kills          `json:"kills"`
	Faults       map[string]int `json:"faults"`   // rounds, by kind
	Accepted     int            `json:"accepted"` // events acknowledged by the MessageBus
	Stored       int            `json:"stored"`   // tasks in the database
	Again        int64          `json:"again"`    // repeated records and tasks that were recognised
	Lost         int            `json:"lost"`     // accepted events that are missing or incomplete in the database
	Doubled      int            `json:"doubled"`  // tasks and sequences stored more than once
	Ordered      int            `json:"ordered"`  // events whose order was checked
	OutOfOrder   int            `json:"outOfOrder"`
	Asked        int            `json:"asked"`                  // queries of the account
	Answers      int            `json:"answers,omitempty"`      // events answered by the cloud on the MessageBus
	AnswersAgain int            `json:"answersAgain,omitempty"` // answers seen there more than once, with one id
	Edge         Bounds         `json:"edge"`
	Cloud        Bounds         `json:"cloud"`
	Violations   []string       `json:"violations,omitempty"`
}

// Bounds are the largest observed figures of a process.
type Bounds struct {
	RSS        int64   `json:"rss"` // bytes
	Goroutines int     `json:"goroutines"`
	Start      float64 `json:"start"` // s, until ready
	Stop       float64 `json:"stop"`  // s, after SIGTERM
}

// Run runs the rounds. Its error lists the violated invariants, or why they could not be checked; the report is valid in both cases.
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
	cfg.postgres = drawn(list, hung) || cfg.work && cfg.Seed%2 == 1 && databaseHere() // with an even seed the workers run in the consumer's process, on SQLite
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

// finish runs the last check and stops everything.
func (s *system) finish(ctx context.Context) error {
	return inTurn(ctx, s.check, then(s.publisher.stop), s.arrived, s.leave)
}

// databaseHere reports whether this machine can run a PostgreSQL server.
func databaseHere() bool {
	_, err := postgres.Programs()
	return err == nil
}

func drawn(list []kind, name string) bool {
	return slices.ContainsFunc(list, func(k kind) bool { return k.name == name })
}

// within removes and reports the kinds that are impossible on this machine. It returns an error if none is left.
func within(list []kind, out io.Writer) ([]kind, error) {
	if _, err := postgres.Programs(); err != nil {
		left := slices.DeleteFunc(list, func(k kind) bool { return k.name == hung })
		if len(left) == 0 {
			return nil, fmt.Errorf("kind %s: %w", hung, err)
		}
		if len(left) < len(list) {
			fmt.Fprintf(out, "skipping kind %s: %v\n", hung, err)
		}
		return left, nil
	}
	return list, nil
}

// rounds injects faults until the requested numbers are reached.
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

// verdict returns an error if an invariant is violated.
func (s *system) verdict() error {
	s.report.Violations = s.violations()
	if len(s.report.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations, the first: %s", len(s.report.Violations), s.report.Violations[0])
}

// violate records and prints a violated invariant. It is safe for concurrent use.
func (s *system) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrongs) < maxViolations {
		s.wrongs = append(s.wrongs, text)
		fmt.Fprintf(s.cfg.Out, "%6.0fs  VIOLATION %s\n", time.Since(s.began).Seconds(), text)
	}
}

// maxViolations bounds the list: a violation mostly repeats.
const maxViolations = 100

func (s *system) violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.wrongs...)
}

// stretch is the number of events published undisturbed in a check.
const stretch = 150

// check stops the faults, checks the invariants, and publishes an undisturbed stretch of events.
func (s *system) check(ctx context.Context) error {
	return inTurn(ctx, s.heal, s.quietly(s.arrived, s.inOrder(stretch, s.publishing(stretch, time.Millisecond)), s.compare))
}

// arrived waits until every acknowledged event is in the database and the spool is empty. It returns an error when there is no more progress.
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

// advancing polls until done, and returns errStuck if the figure does not change for too long.
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

// lost reports the missing events and the state of each part.
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

// status returns app-offload's whole status.
func (s *system) status(ctx context.Context) string {
	var raw json.RawMessage
	if err := s.edge.Load().Get(ctx, "/status", &raw); err != nil {
		return err.Error()
	}
	return string(raw)
}

// stats returns the output of the consumer's stats command, one line per node.
func (s *system) stats(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, filepath.Join(s.cfg.Bin, "offload-cloud"), "stats", "-json", "-store", s.store).Output() // #nosec G204 -- our own binary
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(out))
}

// leave stops both processes after everything has arrived, and checks the files they leave.
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

// checkAccount checks app-offload's final account.
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

// inspect checks the whole database again.
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

// checkStats checks the consumer's statistics of each node.
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
		delete(n.Gone, "skipped") // sequences that a crash left without a record: nothing was accepted under them
		if s.restored > 0 {       // records repeated by a copy of the spool with other content are quarantined until they arrive under a new epoch
			delete(n.Gone, "done")
			n.DeadLetters = 0
		}
		if n.Gaps != 0 || n.DeadLetters > s.garbage || (len(n.Gone) != 0 && !s.drops) {
			s.violate("the consumer has gaps, dead letters or records that are gone: %s", text(n))
		}
	}
}
