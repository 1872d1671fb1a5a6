package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
	"app-offload/functions/seal"
)

// deliverFlags are the flags of the verb deliver.
type deliverFlags struct {
	source   sourceFlags
	to       string
	chunk    int
	rollback bool
	within   time.Duration
	level    slog.Level
}

func deliverVerb(ctx context.Context, args []string, std streams) error {
	var f deliverFlags
	flags := newFlags("deliver", std)
	f.source.register(flags)
	flags.StringVar(&f.to, "to", "", "names of the nodes, separated by commas")
	flags.IntVar(&f.chunk, "chunk", 64<<10, "bytes of a chunk, 1,024 to 262,144")
	flags.BoolVar(&f.rollback, "rollback", false, "allow a version older than the one in force, which its signature must permit")
	flags.DurationVar(&f.within, "within", 10*time.Minute, "time to wait for the nodes")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%d folders given, expected one; see -h", len(rest))
	}
	if err := f.source.single(); err != nil {
		return err
	}
	if f.within <= 0 {
		return fmt.Errorf("-within %s: it must be positive", f.within)
	}
	nodes := map[string]*recipient{}
	for name := range strings.SplitSeq(f.to, ",") {
		if name == "" || strings.ContainsAny(name, "/+#\x00") {
			return fmt.Errorf("-to %q: it must be names of nodes, separated by commas, and %q is not a name", f.to, name)
		}
		nodes[name] = &recipient{pause: firstOffer}
	}
	sender, file, err := offered(rest[0], f.chunk, f.rollback)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	return f.run(ctx, sender, nodes, slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: f.level})))
}

// offered reads the folder of a version. The caller closes the file.
func offered(folder string, chunk int, rollback bool) (*delivery.Sender, *os.File, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, nil, fmt.Errorf("reading a version of a model: %w", err)
	}
	defer func() { _ = root.Close() }() // read only
	manifest, err := models.ReadFile(root, models.ManifestFile, 1<<20)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest: %w", err)
	}
	m, err := models.ParseManifest(manifest)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the manifest in %s: %w", folder, err)
	}
	signature, err := models.ReadFile(root, models.SignatureFile, 1<<20)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the signature (nodes accept only signed versions; sign with minisign -S -s KEY -m %s): %w",
			filepath.Join(folder, models.ManifestFile), err)
	}
	if rollback && models.Rollback(signature).Compare(m.Version) < 0 {
		return nil, nil, fmt.Errorf("-rollback: the signature permits no rollback; name the newest version that %s may replace: minisign -S -s KEY -m %s -t rollback:VERSION",
			m.Version, filepath.Join(folder, models.ManifestFile))
	}
	file, err := root.OpenFile(m.File, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe has no size
	if err != nil {
		return nil, nil, fmt.Errorf("reading the model: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != m.Size {
		err = fmt.Errorf("reading the model: %s has %d bytes, the manifest specifies %d", file.Name(), info.Size(), m.Size)
	}
	var s *delivery.Sender
	if err == nil {
		s, err = delivery.NewSender(manifest, signature, file, chunk, rollback)
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return s, file, nil
}

// Pauses before an offer is repeated. The broker keeps each offer to an absent node, so the pause doubles. A node that has answered requests chunks
// without another offer.
const (
	firstOffer = 10 * time.Second
	answered   = 5 * time.Minute
)

// recipient is a node that has neither installed nor refused the version yet.
type recipient struct {
	due   time.Time // of the next offer
	pause time.Duration
}

func (f *deliverFlags) run(ctx context.Context, sender *delivery.Sender, nodes map[string]*recipient, log *slog.Logger) error {
	f.source.id += "-deliver"
	f.source.temporary = true
	for node := range nodes {
		f.source.below = append(f.source.below, strings.TrimPrefix(delivery.WantTopic(node), seal.TopicRoot))
	}
	transport, err := f.source.transport(sourceLimits{maxMessage: delivery.MaxMessage}, log)
	if err != nil {
		return err
	}
	defer transport.Close()
	ctx, cancel := context.WithTimeout(ctx, f.within)
	defer cancel()
	wants := make(chan *consume.Message, 64)
	if err := transport.Start(ctx, func(m *consume.Message) bool {
		select {
		case wants <- m:
		default: // the node repeats the request
			m.Ack()
		}
		return true
	}); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	c := &courier{sender: sender, transport: transport, nodes: nodes, log: log}
	return c.serve(ctx, wants)
}

// courier delivers one version to nodes. It belongs to one goroutine.
type courier struct {
	sender    *delivery.Sender
	transport consume.Transport
	nodes     map[string]*recipient
	refused   int
	log       *slog.Logger
}

// serve offers the version and answers requests until every node has answered or ctx ends.
func (c *courier) serve(ctx context.Context, wants <-chan *consume.Message) error {
	tick := time.Tick(firstOffer)
	err := c.offer(ctx)
	for err == nil && len(c.nodes) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("nodes without an answer: %s", strings.Join(slices.Sorted(maps.Keys(c.nodes)), ", "))
		case <-tick:
			err = c.offer(ctx)
		case m := <-wants:
			err = c.answer(ctx, m)
			m.Ack()
		}
	}
	if err == nil && c.refused > 0 {
		err = fmt.Errorf("nodes that refused the model: %d", c.refused)
	}
	return err
}

// offer sends the offers that are due.
func (c *courier) offer(ctx context.Context) error {
	now := time.Now()
	for node, r := range c.nodes {
		if now.Before(r.due) {
			continue
		}
		if err := c.send(ctx, node, c.sender.Offer()); err != nil {
			return err
		}
		r.due, r.pause = now.Add(r.pause), 2*r.pause
	}
	return nil
}

// answer sends the requested chunks to a node, or records its final answer.
func (c *courier) answer(ctx context.Context, m *consume.Message) error {
	node, _, _ := strings.Cut(strings.TrimPrefix(m.Topic, seal.TopicRoot), "/")
	w, err := delivery.DecodeWant(m.Payload)
	if err != nil {
		c.log.Warn("request of a node rejected", "node", node, "error", err)
		return nil
	}
	r := c.nodes[node]
	if r == nil || w.ID != c.sender.ID() {
		return nil
	}
	r.due, r.pause = time.Now().Add(answered), answered
	switch w.State {
	case delivery.Installed:
		c.log.Info("model installed", "node", node)
		delete(c.nodes, node)
	case delivery.Refused:
		c.log.Error("model refused", "node", node, "reason", w.Reason)
		delete(c.nodes, node)
		c.refused++
	default:
		c.log.Debug("sending chunks", "node", node, "have", w.Have, "of", w.Of)
	}
	for chunk, err := range c.sender.Answer(w) { // no chunks for a report
		if err == nil {
			err = c.send(ctx, node, chunk)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *courier) send(ctx context.Context, node string, message []byte) error {
	if err := c.transport.Publish(ctx, []consume.Outgoing{{Topic: delivery.Topic(node), Payload: message}}); err != nil {
		return fmt.Errorf("sending the model to %s: %w", node, err)
	}
	return nil
}
