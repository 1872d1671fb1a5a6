package faults

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/functions/badlink"
)

// kind is one thing that can happen.
type kind struct {
	name   string
	what   string
	strike func(s *system, ctx context.Context) error
	apart  bool // drawn only where it is named
}

// hung is the kind that needs the consumer's database to be in PostgreSQL.
const hung = "hung"

// kinds lists them all.
func kinds() []kind {
	return []kind{
		{name: "kill-edge", what: "kill -9 app-offload, sometimes again while it starts", strike: (*system).killEdge},
		{name: "kill-cloud", what: "kill -9 offload-cloud, sometimes again while it starts", strike: (*system).killCloud},
		{name: "kill-both", what: "kill -9 both at once", strike: (*system).killBoth},
		{name: "term-edge", what: "SIGTERM app-offload and start it again", strike: (*system).termEdge},
		{name: "cut", what: "the link is cut and refuses connections", strike: troubled("cut")},
		{name: "slow", what: "the link is narrow, late or in pieces", strike: troubled("slow")},
		{name: "stall", what: "the link is half-open: up, and silent in one or both directions", strike: troubled("stall")},
		{name: "reset", what: "connections are reset, at once or after some bytes", strike: troubled("reset")},
		{name: "puback", what: "the link swallows PUBACKs", strike: troubled("puback")},
		{name: "receipt", what: "the link swallows receipts", strike: troubled("receipt")},
		{name: "broker", what: "kill -9 the broker in the cloud, which forgets everything", strike: (*system).killBroker},
		{name: "bus", what: "restart the MessageBus, which keeps its sessions", strike: (*system).restartBus},
		{name: "late", what: "the consumer is away while events come, and mostly a session of its own is forgotten; all then arrive in order", strike: (*system).lateConsumer},
		{name: "clock", what: "the wall clock steps by an hour, a day or 30 years, sometimes with a new boot of the machine", strike: (*system).stepClock},
		{name: "second", what: "a second app-offload on the same MessageBus publishes results", strike: (*system).secondService},
		{name: "acl", what: "the broker lets the consumer no longer read one class; the others pass", strike: (*system).denyClass},
		{name: "oversized", what: "an event above the broker's limit, or a message of 70 MB on the MessageBus, to the consumer or as a receipt", strike: (*system).oversized},
		{name: "same-id", what: "different events under one id, and one event twice", strike: (*system).sameID},
		{name: "restored", what: "the spool is put back to a copy taken before it went on", strike: (*system).restoreSpool},
		{name: "closing", what: "a balancer takes connections and closes them at every PUBLISH", strike: (*system).closing},
		{name: hung, what: "one of two consumers is stopped within a transaction; only where it is named, as it puts the database into PostgreSQL", strike: (*system).hungWorker, apart: true},
		{name: killsWork, what: "kill -9 worker, offload-cloud and app-offload in any order, where the cloud answers every event; only where it is named", strike: (*system).killWork, apart: true},
	}
}

// Names lists the kinds for the help, each with what it does.
func Names() string {
	var lines []string
	for _, k := range kinds() {
		lines = append(lines, fmt.Sprintf("%-10s  %s", k.name, k.what))
	}
	return strings.Join(lines, "\n")
}

// chosen finds the kinds of a list; an empty one is all of them but those apart.
func chosen(names []string) ([]kind, error) {
	all := kinds()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(k kind) bool { return k.apart }), nil
	}
	var list []kind
	for _, name := range names {
		i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no kind %q; there are:\n%s", name, Names())
		}
		list = append(list, all[i])
	}
	return list, nil
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

func drawn(list []kind, name string) bool {
	return slices.ContainsFunc(list, func(k kind) bool { return k.name == name })
}

// quickKinds has two kills for everything else that can happen.
func quickKinds() (names []string) {
	for _, k := range kinds() {
		if k.apart {
			continue
		}
		copies := map[string]int{"kill-edge": 11, "kill-cloud": 6, "kill-both": 3}[k.name]
		names = append(names, slices.Repeat([]string{k.name}, max(copies, 1))...)
	}
	return names
}

// away is how long a process stays away at most.
const away = 500 * time.Millisecond

// orAgain goes on with a step, or in one of four cases begins anew.
func (s *system) orAgain(on, anew step) step {
	return func(ctx context.Context) error {
		if s.random.IntN(4) == 0 {
			return anew(ctx)
		}
		return on(ctx)
	}
}

func (s *system) killEdge(ctx context.Context) error {
	return inTurn(ctx, s.endEdge, s.pausing(away), s.startEdge, s.orAgain(s.awaitEdge, script(s.pausing(3*time.Second), s.killEdge)))
}

func (s *system) endEdge(context.Context) error {
	if e := s.edge.Load().Edge; !e.Kill() {
		return unexpected("app-offload", e)
	}
	s.report.Kills.Edge++
	return nil
}

func (s *system) killCloud(ctx context.Context) error {
	return inTurn(ctx, s.endCloud, s.pausing(away), s.orAgain(s.startCloud, script(s.launchCloud, s.pausing(time.Second), s.killCloud)))
}

func (s *system) endCloud(context.Context) error {
	if !s.cloud.Kill() {
		return unexpected("offload-cloud", s.cloud.Process)
	}
	s.report.Kills.Cloud++
	return nil
}

func (s *system) killBoth(ctx context.Context) error {
	return inTurn(ctx, s.endCloud, s.killEdge, s.startCloud)
}

func (s *system) termEdge(ctx context.Context) error {
	return inTurn(ctx, s.stopEdge, s.pausing(away), s.startEdge, s.awaitEdge)
}

// stopEdge asks app-offload to end. It has seven seconds by its configuration; a busy machine gives it more. If it does
// not end, its stacks go to its log.
func (s *system) stopEdge(context.Context) error {
	begin := time.Now()
	e := s.edge.Load().Edge
	if ended(e) {
		return unexpected("app-offload", e)
	}
	late := time.AfterFunc(stopTime, func() { e.Abort() })
	defer late.Stop()
	err := e.Stop(2 * stopTime)
	took := time.Since(begin)
	s.report.Edge.Stop = max(s.report.Edge.Stop, took.Seconds())
	if took > stopTime {
		return fmt.Errorf("app-offload did not stop within %v, its stacks are at the end of edge.log: %w", stopTime, err)
	}
	return err
}

const stopTime = 20 * time.Second

// troubled makes one of the link's troubles for a while; now and then it stays until the next round is over.
func troubled(name string) func(*system, context.Context) error {
	return func(s *system, ctx context.Context) error {
		list := badlink.Troubles[name]
		err := inTurn(ctx, s.harming(list[s.random.IntN(len(list))]), s.pausing(5*time.Second))
		if err != nil || s.random.IntN(3) == 0 {
			return err
		}
		return s.link.Heal()
	}
}

func (s *system) killBroker(ctx context.Context) error {
	return inTurn(ctx, s.broker.kill, s.pausing(3*time.Second), s.broker.start)
}

func (s *system) restartBus(ctx context.Context) error {
	return inTurn(ctx, s.bus.stop, s.pausing(3*time.Second), s.bus.start)
}
