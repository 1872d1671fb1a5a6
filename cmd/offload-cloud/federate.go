package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/functions/atomicfile"
	"app-offload/functions/fleet"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// federateFlags are the flags of the verb federate.
type federateFlags struct {
	source sourceFlags
	keys   keyFlags
	terms  fleet.Terms
	state  string
	listen string
	level  slog.Level
}

// federation answers nodes. Its methods run on one goroutine, except for deliver.
type federation struct {
	fleet     *fleet.Fleet
	transport consume.Transport
	queue     chan *consume.Message
	state     string
	saved     uint64 // statements in the state file
	log       *slog.Logger
	said      *say.Every
	once      say.Once
}

func federateVerb(ctx context.Context, args []string, std streams) error {
	f := federateFlags{terms: fleet.DefaultTerms()}
	flags := newFlags("federate", std)
	f.source.register(flags)
	f.keys.register(flags)
	flags.IntVar(&f.terms.Least, "least", f.terms.Least, "minimum number of other nodes whose contributions a node's prior must contain")
	flags.Float64Var(&f.terms.Clip, "clip", f.terms.Clip, "maximum norm of each part of a contribution, which bounds the influence of one node")
	flags.DurationVar(&f.terms.Every, "every", f.terms.Every, "length of a round; a contribution counts from the next round on")
	flags.DurationVar(&f.terms.MaxAge, "max-age", f.terms.MaxAge, "maximum age of a contribution")
	flags.Float64Var(&f.terms.Epsilon, "epsilon", 0, "epsilon of the Gaussian noise of a round, below 1; 0 adds no noise")
	flags.Float64Var(&f.terms.Delta, "delta", f.terms.Delta, "delta of the noise")
	flags.StringVar(&f.state, "state", "", "file that keeps the contributions across restarts; none if empty")
	flags.StringVar(&f.listen, "listen", "", "address of /live, /ready and /metrics, such as 127.0.0.1:9466; none if empty")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if err := f.terms.Validate(); err != nil {
		return err
	}
	if err := f.source.single(); err != nil {
		return err
	}
	return f.run(ctx, slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: f.level})))
}

func (f *federateFlags) run(ctx context.Context, log *slog.Logger) (err error) {
	opener, sealer, err := f.keys.codecs(log)
	if err != nil {
		return err
	}
	f.source.id += "-federate"
	f.source.below = []string{"+/learned"}
	transport, err := f.source.transport(sourceLimits{maxMessage: fleet.MaxMessage, keys: f.keys.path != ""}, log)
	if err != nil {
		return err
	}
	n := &federation{
		fleet: fleet.New(f.terms, sealer, opener), transport: transport, queue: make(chan *consume.Message, 64), state: f.state, log: log, said: say.NewEvery(time.Minute),
	}
	if err := n.restore(); err != nil {
		return err
	}
	stopWeb, err := serveWeb(f.listen, newMux(func(context.Context) string {
		if !transport.Connected() {
			return "no subscription at the broker"
		}
		return ""
	}, &f.keys, n), log)
	if err != nil {
		return err
	}
	defer stopWeb()
	defer transport.Close()
	if err := transport.Start(ctx, n.deliver); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("subscribing: %w", err)
	}
	log.Info("ready", "from", f.source.from, "least", f.terms.Least, "clip", f.terms.Clip, "epsilon", f.terms.Epsilon, "delta", f.terms.Delta,
		"noisePerPart", f.terms.Deviation(1), "pid", os.Getpid())
	n.serve(ctx)
	return n.save()
}

// deliver drops a message if the queue is full, since its node repeats it. An unacknowledged message would block all others at the broker.
func (n *federation) deliver(m *consume.Message) bool {
	select {
	case n.queue <- m:
	default:
		m.Ack()
	}
	return true
}

const saveEvery = 10 * time.Second

func (n *federation) serve(ctx context.Context) {
	tick := time.Tick(saveEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-n.queue:
			n.answer(ctx, m)
			m.Ack()
		case <-tick:
			if err := n.save(); n.once.Changed("save", err) && err != nil {
				n.log.Error("saving the contributions failed, retrying", "error", err)
			}
		}
	}
}

// answer handles one message. A node repeats a statement until it gets an answer.
func (n *federation) answer(ctx context.Context, m *consume.Message) {
	node, _, _ := strings.Cut(strings.TrimPrefix(m.Topic, seal.TopicRoot), "/")
	shown := consume.Shown(node, 100)
	var answer []byte
	var err error
	if m.Cut > 0 {
		err = n.fleet.TooLarge(m.Cut)
	} else {
		answer, err = n.fleet.Handle(node, m.Payload, time.Now())
	}
	if refused, is := errors.AsType[*fleet.Refused](err); is {
		if count, due := n.said.Due(node + refused.Reason); due {
			n.log.Warn("statement refused", "node", shown, "reason", refused.Reason, "error", refused.Err, "count", count)
		}
	} else if err != nil {
		n.log.Error("answering a node failed", "node", shown, "error", err)
	}
	if answer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, saveEvery)
	defer cancel()
	if err := n.transport.Publish(ctx, []consume.Outgoing{{Topic: seal.FleetTopic(node), Payload: answer}}); n.once.Changed("publish", err) && err != nil {
		n.log.Warn("an answer was not published", "node", shown, "error", err)
	}
}

func (n *federation) restore() error {
	if n.state == "" {
		return nil
	}
	raw, err := atomicfile.Read(n.state)
	if err == nil {
		err = n.fleet.Restore(raw)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = n.write() // shows immediately whether the file is writable
	}
	if err != nil {
		return fmt.Errorf("-state %s: %w", n.state, err)
	}
	return nil
}

func (n *federation) save() error {
	if n.state == "" {
		return nil
	}
	taken := n.fleet.Counts().Taken
	if taken == n.saved {
		return nil
	}
	err := n.write()
	if err == nil {
		n.saved = taken
	}
	return err
}

func (n *federation) write() error {
	raw, err := n.fleet.Save()
	if err == nil {
		err = atomicfile.Replace(n.state, raw)
	}
	return err
}

// Register registers the metrics with Prometheus.
func (n *federation) Register(r prometheus.Registerer) {
	r.MustRegister(fleetCounts{n.fleet})
}

type fleetCounts struct{ fleet *fleet.Fleet }

var (
	fleetNodes   = prometheus.NewDesc("offload_cloud_fleet_nodes", "Nodes that take part in federated learning.", nil, nil)
	fleetTaken   = prometheus.NewDesc("offload_cloud_fleet_statements_total", "Statements of nodes accepted.", nil, nil)
	fleetRefused = prometheus.NewDesc("offload_cloud_fleet_refused_total", "Statements of nodes refused.", []string{"reason"}, nil)
)

func (c fleetCounts) Describe(to chan<- *prometheus.Desc) {
	to <- fleetNodes
	to <- fleetTaken
	to <- fleetRefused
}

func (c fleetCounts) Collect(to chan<- prometheus.Metric) {
	counts := c.fleet.Counts()
	to <- prometheus.MustNewConstMetric(fleetNodes, prometheus.GaugeValue, float64(counts.Nodes))
	to <- prometheus.MustNewConstMetric(fleetTaken, prometheus.CounterValue, float64(counts.Taken))
	for reason, n := range counts.Refused {
		to <- prometheus.MustNewConstMetric(fleetRefused, prometheus.CounterValue, float64(n), reason)
	}
}
