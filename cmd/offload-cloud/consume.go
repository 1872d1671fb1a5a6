package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/models"
)

// consumeFlags are the flags of the command without a verb.
type consumeFlags struct {
	source   sourceFlags
	keys     keyFlags
	limits   consume.Limits
	options  store.Options
	work     workFlags
	byClass  string
	counts   []measured // of the workers in this process
	store    string
	listen   string
	logLevel slog.Level
	jsonl    bool
}

func (f *consumeFlags) register(fs *flag.FlagSet) {
	f.source.register(fs)
	f.keys.register(fs)
	fs.StringVar(&f.store, "store", "sqlite:offload-cloud.db", "where to store: sqlite:PATH or postgres://user@host/database")
	f.work.register(fs, "0 leaves the jobs to offload-cloud work; -1 is the number of processors on SQLite, and 0 on PostgreSQL")
	fs.StringVar(&f.byClass, "class-model", "", "models of classes, which override those in the manifests, such as vibration=bearing,camera=parts")
	fs.StringVar(&f.listen, "listen", "", "address of /live, /ready and /metrics, such as 127.0.0.1:9464; none if empty")
	fs.BoolVar(&f.jsonl, "jsonl", false, "print each new record to stdout as a JSON line")
	fs.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.IntVar(&f.limits.QueueMiB, "queue-mib", 64, "limit of messages in memory; other messages wait at the broker")
	fs.IntVar(&f.limits.GroupRecords, "group-records", 5000, "records after which a transaction takes no further message")
	fs.IntVar(&f.options.DeadCount, "dead-count", 10_000, "maximum number of unreadable messages kept")
	fs.IntVar(&f.options.DeadMiB, "dead-mib", 256, "maximum size of unreadable messages kept")
}

func (f *consumeFlags) check() error {
	for _, one := range []struct {
		flag     string
		is, most int
	}{
		{"-queue-mib", f.limits.QueueMiB, 65536},
		{"-group-records", f.limits.GroupRecords, 1_000_000},
		{"-dead-count", f.options.DeadCount, 100_000_000},
		{"-dead-mib", f.options.DeadMiB, 1 << 20},
	} {
		if one.is < 1 || one.is > one.most {
			return fmt.Errorf("%s %d: it must be from 1 to %d", one.flag, one.is, one.most)
		}
	}
	if f.source.share != "" && strings.HasPrefix(f.store, "sqlite:") {
		return errors.New("-share needs a PostgreSQL shared by all consumers of the group")
	}
	return f.work.check()
}

// consumeVerb receives and stores until ctx ends.
func consumeVerb(ctx context.Context, args []string, std streams) error {
	var f consumeFlags
	fs := newFlags("consume", std)
	f.register(fs)
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if f.source.from == "" {
		return errors.New("-from is missing; name the broker, such as -from mqtt://localhost:1883")
	}
	if err := f.check(); err != nil {
		return err
	}
	ignorePipes() // the reader of the lines may exit while records continue to arrive
	progress := newProgress(std.err)
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: f.logLevel}))
	c, db, err := f.consumer(ctx, std.out, log)
	if err != nil {
		return err
	}
	stopWork, err := f.startWork(ctx, c, db, log)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	defer func() {
		if err := db.Close(); err != nil {
			log.Error("closing the store failed", "error", err)
		}
	}()
	defer stopWork()
	return f.serve(ctx, c, db, progress, log)
}

// ignorePipes turns a write to a pipe without a reader from the end of the process into an error.
func ignorePipes() { signal.Ignore(syscall.SIGPIPE) }

// consumer builds the consumer and its store.
func (f *consumeFlags) consumer(ctx context.Context, out io.Writer, log *slog.Logger) (*consume.Consumer, *store.Store, error) {
	opener, sealer, err := f.keys.codecs(log)
	if err != nil {
		return nil, nil, err
	}
	f.source.confirm = f.works()
	limits := sourceLimits{maxMessage: f.keys.takes().MaxMessage, queue: int64(f.limits.QueueMiB) << 20, keys: f.keys.path != ""}
	transport, err := f.source.transport(limits, log)
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, f.store, f.options)
	if err != nil {
		return nil, nil, err
	}
	f.limits.Lanes = db.Lanes()
	c := &consume.Consumer{
		Transport: transport, Store: db, Opener: opener, Sealer: sealer, Log: log, Limits: f.limits,
		Name: f.source.id, Takes: f.keys.takes(),
	}
	if f.jsonl {
		c.Lines = out
	}
	return c, db, nil
}

// works reports whether this process has models for classes.
func (f *consumeFlags) works() bool { return f.work.models.dir != "" || f.byClass != "" }

// startWork makes the store write jobs and the consumer publish answers, and computes in this process if the flags say so. stop waits for the current
// runs; call it after the end of ctx.
func (f *consumeFlags) startWork(ctx context.Context, c *consume.Consumer, db *store.Store, log *slog.Logger) (stop func(), err error) {
	flag, err := classModels(f.byClass)
	if err != nil || !f.works() {
		return func() {}, err
	}
	c.Answers = db
	if f.work.models.dir == "" {
		db.SetModels(byClass(nil, flag))
		return func() {}, nil
	}
	m, err := f.work.models.open(ctx)
	if err != nil {
		return nil, err
	}
	if f.work.threads < 0 {
		f.work.threads = 0
		if strings.HasPrefix(f.store, "sqlite:") {
			f.work.threads = runtime.GOMAXPROCS(0)
		}
	}
	db.SetModels(byClass(m, flag))
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { rescan(ctx, m, log, func() { db.SetModels(byClass(m, flag)) }) })
	if f.work.threads > 0 {
		w := f.work.worker(db, m, log)
		wake, computed := make(chan struct{}, w.Threads), make(chan struct{}, 1)
		w.Wake, w.Done, c.Computed = wake, func() { signalled(computed) }, computed
		c.OnJobs = func() {
			for range w.Threads {
				signalled(wake)
			}
		}
		f.counts = append(f.counts, &w.Counts)
		running.Go(func() { w.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
		if err := m.Close(context.WithoutCancel(ctx)); err != nil {
			log.Error("closing the models failed", "error", err)
		}
	}, nil
}

// byClass returns the model of each class: from the manifests, overridden by the flag.
func byClass(m *models.Store, flag map[string]string) map[string]string {
	all := map[string]string{}
	if m != nil {
		list, _ := m.Status()
		for _, one := range list {
			for _, class := range one.Classes {
				if _, taken := all[class]; !taken { // if two models name a class, the first by name
					all[class] = one.Name
				}
			}
		}
	}
	for class, model := range flag {
		all[class] = model
	}
	return all
}

// classModels parses "class=model,class=model".
func classModels(text string) (map[string]string, error) {
	byClass := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		class, model, ok := strings.Cut(pair, "=")
		if class, model = strings.TrimSpace(class), strings.TrimSpace(model); !ok || class == "" || model == "" || byClass[class] != "" {
			return nil, fmt.Errorf("-class-model %q: write it like vibration=bearing,camera=parts, each class once", text)
		}
		byClass[class] = model
	}
	return byClass, nil
}

// signalled sends a token unless the channel is full.
func signalled(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// serve runs the consumer with its progress line and its web server, and waits until all have stopped.
func (f *consumeFlags) serve(ctx context.Context, c *consume.Consumer, db *store.Store, p *progress, log *slog.Logger) error {
	mux := newMux(func(ctx context.Context) string { return notReady(ctx, c, db) }, &f.keys, append(f.counts, &c.Counts)...)
	stopWeb, err := serveWeb(f.listen, mux, log)
	if err != nil {
		return err
	}
	defer stopWeb()
	stopProgress := p.start(&c.Counts, log)
	defer stopProgress()
	began := time.Now()
	return c.Run(ctx, func() {
		// Scripts that start this program wait for the word "ready".
		log.Info("ready", "from", f.source.from, "after", time.Since(began).Round(time.Millisecond), "pid", os.Getpid())
	})
}

// notReady returns the reason why the consumer cannot work, "" if it can. Errors appear only in the log.
func notReady(ctx context.Context, c *consume.Consumer, db *store.Store) string {
	switch {
	case !c.Transport.Connected():
		return "no subscription at the broker"
	case !c.Counts.StoreUp.Load():
		return "the store fails"
	case db.Ping(ctx) != nil:
		return "the store does not answer"
	}
	return c.HeldUp()
}
