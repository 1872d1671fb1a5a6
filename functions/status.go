package functions

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/health"
	"app-offload/functions/host"
	"app-offload/functions/ledger"
	"app-offload/functions/say"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/version"
)

// Status returns the whole status. It takes several locks briefly, and is meant for users and monitors that call it a few times a second.
func (s *Service) Status() status.Status {
	rules := s.rules.Load()
	var node host.State
	s.host.Read(&node)
	f, health := s.examine()
	node.Link = f.Link
	build, policies := version.Get(), s.feedback.Status()
	policies.Credits = s.teller.status(rules.Model.Credits())
	policies.Governor, policies.Learned.Fleet = s.governor.Status(), s.member.Status()
	return status.Status{
		APIVersion: "v3", Version: build.Version, Commit: build.Commit, NodeName: f.Node, Ready: health.Ready(), NotReady: health.Texts(status.Critical), Health: health,
		Counts: f.Counts, Drops: f.Drops, Policy: rules.For("").String(), Events: f.Events, Spool: spoolStatus(&f.Spool), Undecided: s.parker.Status(), Overload: s.shedder.Status(s.clock.Now()),
		Link: f.Link, Node: node, Export: f.Export, Local: s.local.Counts(), Models: f.Models, Answers: s.desk.Counts(), Results: s.forward.Counts(), Process: s.process(), Policies: policies,
		Configuration: status.ConfigurationStatus{Version: rules.Configuration, Policies: rules.Version(), Problem: f.Configuration},
	}
}

// Health examines everything that can be wrong. It takes several locks briefly.
func (s *Service) Health() status.Health {
	_, h := s.examine()
	return h
}

// NotReady returns why events are not accepted or not handled; empty means ready. An unreachable cloud is not such a reason.
func (s *Service) NotReady() []string { return s.Health().Texts(status.Critical) }

// examine reads the facts and derives the health from them. One lock spans both, so that no counter seems to fall.
func (s *Service) examine() (health.Facts, status.Health) {
	s.examining.Lock()
	defer s.examining.Unlock()
	f := s.facts()
	return f, s.health.Look(&f)
}

func (s *Service) facts() health.Facts {
	cfg, problem := s.configuration()
	f := health.Facts{
		Node: cfg.Node, Stopping: s.stopping.Load(), Intake: s.Problem(), Rival: s.Rival(), Counts: s.Counts(), Drops: s.drops.Status(),
		Directory: cfg.Spool.Directory, Spool: s.spool.Stats(), BacklogLimit: cfg.Writable.Policy.BacklogLimit,
		Link: s.exporter.Link(), Export: s.exporter.Stats(), Models: s.local.Stats(), Keys: s.keys.Problem(), KeysBroken: s.keys.Broken(),
		Configuration: problem, Learned: s.feedback.LearnedProblem(), Canary: s.feedback.Canary(),
	}
	f.Events, f.Messages = s.Receiver.Counts()
	f.Events.Returned = s.refused.Load()
	maps.Copy(f.Events.Skipped, s.kinship.Skipped())
	f.Looped, f.LoopDevices = s.kinship.Looped()
	return f
}

func spoolStatus(st *spool.Stats) status.SpoolStatus {
	return status.SpoolStatus{
		Epoch: st.Epoch, Tasks: int64(st.Held), Bytes: st.HeldBytes, Limit: st.Limit, Fill: st.Fill, Quota: st.Quota, OldestAge: st.OldestAge.Seconds(), // a count of records
		Line: fmt.Sprintf("spool %.0f %% full, %d of %d MiB, %s, oldest %v", st.Fill*100, st.HeldBytes>>20, st.Limit>>20, status.Several(st.Held, "task"),
			st.OldestAge.Round(time.Second)),
		Damaged: int64(st.Quarantined), Problem: st.Problem,
		Dropped: ledger.DroppedByClass(st.Classes),
	}
}

func (s *Service) process() status.Process {
	return status.Process{
		RSS: host.ResidentBytes(), Goroutines: runtime.NumGoroutine(), Uptime: time.Since(s.started).Seconds(),
	}
}

// Advise decides for a task that was not received. The decision is recorded like any other; its id is the task's.
func (s *Service) Advise(q decide.Question) (decision.Entry, error) {
	if err := q.Check(); err != nil {
		return decision.Entry{}, err
	}
	r := &run{rules: s.rules.Load()}
	s.look(&r.state)
	j := &job{Case: r.rules.Answer(q, &r.state)}
	entry, _ := s.Decision(s.enter(r, j, j.Decision))
	return entry, nil
}

// Decisions returns up to n of the latest decisions that satisfy keep, newest first.
func (s *Service) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	return s.feedback.Decisions(n, keep)
}

// Decision returns one of the latest decisions.
func (s *Service) Decision(id uint64) (decision.Entry, bool) { return s.feedback.Get(id) }

// teller takes the prices and the balance that the owner of the fleet publishes. Prices change predicted costs but no guard: a class that must not
// leave still does not. All methods are safe for concurrent use.
type teller struct {
	node    string
	opener  *seal.Opener
	publish func(score.Prices)
	log     Logger
	said    *say.Every

	mu      sync.Mutex
	at      time.Time // of the statement in force
	seq     int64     // of the settlement that it refers to
	known   status.CreditStatus
	refused uint64
}

// take reads a message from the node's credit topic.
func (t *teller) take(message []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(message); err != nil {
		t.refused++
		if n, due := t.said.Due("refused"); due {
			t.log.Warnf("credit statement rejected: error=%q count=%d", err, n)
		}
	}
}

func (t *teller) read(message []byte) error {
	n, err := t.opener.OpenNote(seal.Credit, message)
	if err != nil {
		return err
	}
	var body struct {
		Balance, Head string
		Prices        score.Prices
	}
	if n.Node != t.node {
		return fmt.Errorf("addressed to node %.64q", n.Node)
	}
	if err := json.Unmarshal(n.Body, &body); err != nil {
		return fmt.Errorf("reading the statement: %w", err)
	}
	number, _, _ := strings.Cut(body.Head, ":")
	seq, _ := strconv.ParseInt(number, 10, 64)  // 0 for none
	if !n.Created.After(t.at) && seq <= t.seq { // after the cloud's clock is set back, a later settlement still counts
		return fmt.Errorf("created %v after settlement %d: not newer than the one in force", n.Created, seq)
	}
	if err := body.Prices.Check(); err != nil {
		return err
	}
	t.at, t.seq = n.Created, seq
	t.known = status.CreditStatus{Balance: check.Cut(body.Balance, 64), Head: check.Cut(body.Head, 128), At: n.Created}
	t.publish(body.Prices)
	return nil
}

func (t *teller) status(on bool) *status.CreditStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !on || t.at.IsZero() && t.refused == 0 {
		return nil
	}
	s := t.known
	s.Refused = t.refused
	return &s
}
