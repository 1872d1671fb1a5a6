package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
)

// system is everything that runs. One goroutine breaks and repairs it; another one only queries it.
type system struct {
	cfg    Config
	env    []string // settings of app-offload; nil means those of the rounds
	plain  bool     // plain events, see publisher
	drops  bool     // records may be dropped; drops are accounted for otherwise
	random *rand.Rand
	began  time.Time
	report *Report

	bus, broker *mosquitto
	link        *badlink.Link
	publisher   *publisher
	database    *database
	edge        atomic.Pointer[stack.Stack]
	cloud       *consumer        // the consumer that is watched
	workers     []*consumer      // consumers that share its work for a while
	postgres    *postgres.Server // the server of the consumer's database, nil on SQLite
	store       string           // the consumer's -store
	work        *work            // answers events; nil without models
	calm        *calm
	clock       *steps // of app-offload, if the clock can step
	specials    int    // events that are not numbered
	restored    int    // number of restored copies of the spool
	garbage     int64  // invalid messages sent to the consumer
	logs        []io.Closer
	files       map[string]io.Writer

	stopWatch func()
	mu        sync.Mutex // guards wrongs
	wrongs    []string
	asking    sync.Mutex // guards accepted and the report's bounds
	accepted  int64      // the highest count of accepted tasks that app-offload has reported
}

// settings make app-offload detect faults quickly, and its spool turn over quickly.
func (s *system) settings() []string {
	if s.env != nil {
		return s.env
	}
	return []string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud",
		"OFFLOAD_WRITABLE_BATCH_MAXAGE=50ms",
		"OFFLOAD_SPOOL_QUOTAMIB=256", "OFFLOAD_SPOOL_SEGMENTMIB=1", "OFFLOAD_SPOOL_RINGMIB=1",
		"OFFLOAD_EXPORT_ACKTIMEOUT=3s", "OFFLOAD_EXPORT_CONNECTTIMEOUT=3s", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=5s",
		"OFFLOAD_EXPORT_BACKOFFMIN=20ms", "OFFLOAD_EXPORT_BACKOFFMAX=1s", "OFFLOAD_EXPORT_RELEASEAFTER=1s",
		// One device's events are a separate class; all events may expire, but none does within a run.
		"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHDEVICE=" + ownClass, "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHPROFILE=",
		"OFFLOAD_WRITABLE_CLASSES_CAMERA_PRIORITY=5", "OFFLOAD_WRITABLE_CLASSES_CAMERA_TTL=24h",
		"OFFLOAD_WRITABLE_CLASSES_DEFAULT_TTL=72h",
	}
}

// start starts all parts and the traffic.
func (s *system) start(ctx context.Context) error {
	s.files = map[string]io.Writer{}
	for _, name := range []string{"bus", "broker", "edge", "second", "cloud", "worker", "postgres"} {
		f, err := os.OpenFile(filepath.Join(s.cfg.Dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("opening a log: %w", err)
		}
		s.logs, s.files[name] = append(s.logs, f), f
	}
	return inTurn(ctx, s.openStore, s.startBrokers, s.startWork, s.startCloud, s.startWorker, s.startEdge, s.awaitEdge, s.startTraffic)
}

func (s *system) startTraffic(context.Context) (err error) {
	if s.publisher, err = newPublisher(s.bus.addr, s.cfg.Seed, s.cfg.Rate); err != nil {
		return err
	}
	s.publisher.plain = s.plain
	s.database = newDatabase(s.store, s.publisher, s.violate)
	s.watch()
	s.publisher.start()
	return nil
}

func (s *system) startBrokers(ctx context.Context) (err error) {
	if s.bus, err = newMosquitto("bus", s.cfg.Dir, false, s.files["bus"]); err != nil {
		return err
	}
	if s.broker, err = newMosquitto("broker", s.cfg.Dir, true, s.files["broker"]); err != nil {
		return err
	}
	if s.link, err = badlink.New(s.broker.addr); err != nil {
		return err
	}
	return inTurn(ctx, s.bus.start, s.broker.start)
}

// startEdge starts app-offload without waiting for it.
func (s *system) startEdge(context.Context) error {
	e, err := stack.StartEdge(stack.Config{
		Bin: s.edgeBin(), Res: s.cfg.Res, Dir: s.cfg.Dir, Log: s.files["edge"], Env: append(s.settings(), s.clock.env()...),
		Bus: stack.Bus{Type: "mqtt", Addr: s.bus.addr}, Cloud: s.link.Addr, Wrap: s.clock.wrap(),
	})
	if err != nil {
		return err
	}
	s.edge.Store(e)
	return nil
}

// awaitEdge waits until app-offload is ready.
func (s *system) awaitEdge(ctx context.Context) error {
	begin := time.Now()
	err := until(ctx, patience, "app-offload is ready", func() (bool, error) {
		e := s.edge.Load()
		if !ended(e.Edge) {
			return e.Get(ctx, "/ready", nil) == nil, nil
		}
		err := unexpected("app-offload", e.Edge)
		if strings.Contains(err.Error(), "address already in use") { // another process took the port, which was free before
			return false, s.startEdge(ctx)
		}
		return false, err
	})
	s.report.Edge.Start = max(s.report.Edge.Start, time.Since(begin).Seconds())
	return err
}

func ended(p *stack.Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// close stops all running parts in any state.
func (s *system) close() error {
	if s.stopWatch != nil {
		s.stopWatch()
	}
	if s.publisher != nil {
		s.publisher.stop()
	}
	if e := s.edge.Load(); e != nil && e.Edge != nil {
		e.Edge.Kill()
	}
	for _, c := range append(s.workers, s.cloud) {
		if c != nil {
			c.Kill()
		}
	}
	s.work.end()
	if s.link != nil {
		s.link.Close()
	}
	var errs []error
	for _, m := range []*mosquitto{s.bus, s.broker} {
		if m != nil {
			errs = append(errs, m.stop(context.Background()))
		}
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop())
	}
	for _, l := range s.logs {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
