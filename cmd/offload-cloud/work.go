package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/cmd/offload-cloud/internal/work"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/models"
)

// modelFlags are the flags of the models.
type modelFlags struct {
	dir, keys string
	memoryMiB int
	runtime   onnxruntime.Config
}

func (f *modelFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.dir, "models", "", "folder of models of the variant cloud; a model's manifest names its classes")
	fs.StringVar(&f.keys, "model-keys", "", "file of public keys in minisign's format, one on each line; models without a valid signature are then rejected")
	fs.IntVar(&f.memoryMiB, "model-memory-mib", 1024, "memory of all loaded models")
	f.runtime = onnxruntime.DefaultConfig()
	fs.StringVar(&f.runtime.Library, "onnxruntime", "", "ONNX Runtime's shared library, for the models that it computes; default libonnxruntime.so.1 beside the program, or in the system's library path")
	fs.IntVar(&f.runtime.Threads, "onnxruntime-threads", f.runtime.Threads, "threads of one run with ONNX Runtime, 1 to 64")
	fs.StringVar(&f.runtime.Models, "onnxruntime-models", "", "onnx models that ONNX Runtime computes instead, separated by commas; * is all")
}

// open opens the folder, which must exist.
func (f *modelFlags) open(ctx context.Context) (*models.Store, error) {
	if info, err := os.Stat(f.dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("-models %q: it must be a folder that exists", f.dir)
	}
	cfg := models.DefaultConfig()
	cfg.Dir, cfg.Variant, cfg.MaxMiB, cfg.MemoryMiB = f.dir, models.Cloud, 2000, f.memoryMiB
	cfg.Runtime = f.runtime
	if f.keys != "" {
		b, err := os.ReadFile(f.keys)
		if err != nil {
			return nil, fmt.Errorf("reading -model-keys: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "untrusted comment:") {
				cfg.Keys = append(cfg.Keys, line)
			}
		}
		if len(cfg.Keys) == 0 {
			return nil, fmt.Errorf("-model-keys %q: the file contains no key", f.keys)
		}
	}
	return models.Open(ctx, cfg, nil)
}

// workFlags are the flags of computation.
type workFlags struct {
	models  modelFlags
	threads int
	lease   time.Duration
	tries   int
}

func (f *workFlags) register(fs *flag.FlagSet, threads string) {
	f.models.register(fs)
	fs.IntVar(&f.threads, "threads", -1, "concurrent runs of models; "+threads)
	fs.DurationVar(&f.lease, "lease", time.Minute, "time after which another worker takes the jobs of a killed one; extended while a model runs")
	fs.IntVar(&f.tries, "tries", 5, "attempts before a job counts as failed")
}

func (f *workFlags) check() error {
	switch {
	case f.threads < -1 || f.threads > 1024:
		return fmt.Errorf("-threads %d: it must be from 0 to 1024, or -1 for the default", f.threads)
	case f.lease < time.Second || f.lease > time.Hour:
		return fmt.Errorf("-lease %s: it must be from 1s to 1h", f.lease)
	case f.tries < 1 || f.tries > 1000:
		return fmt.Errorf("-tries %d: it must be from 1 to 1000", f.tries)
	case f.models.memoryMiB < 1 || f.models.memoryMiB > 65536:
		return fmt.Errorf("-model-memory-mib %d: it must be from 1 to 65536", f.models.memoryMiB)
	}
	return nil
}

const (
	workPoll  = 250 * time.Millisecond // interval of queries for jobs
	modelScan = 30 * time.Second       // interval of scans for new models
)

// worker returns a worker. It queries the available models in each round, so new ones are used immediately.
func (f *workFlags) worker(db *store.Store, m *models.Store, log *slog.Logger) *work.Worker {
	return &work.Worker{
		Store: db, Names: func() []string { return inForce(m) }, Model: m.Model, ID: fmt.Sprintf("%s-%d-%s", hostname(), os.Getpid(), rand.Text()[:8]),
		Threads: f.threads, Lease: f.lease, Poll: workPoll, Tries: f.tries, Log: log,
	}
}

// inForce returns the models with a version in force.
func inForce(m *models.Store) (names []string) {
	list, _ := m.Status()
	for _, one := range list {
		if one.Version != "" {
			names = append(names, one.Name)
		}
	}
	return names
}

// rescan scans for new versions of models until ctx ends, and calls changed after each scan.
func rescan(ctx context.Context, m *models.Store, log *slog.Logger, changed func()) {
	tick := time.Tick(modelScan)
	said := map[string]string{}
	for {
		list, problems := m.Status()
		for _, one := range list {
			if text := string(one.Version) + " " + one.Problem; said[one.Name] != text {
				said[one.Name] = text
				log.Info("model", "name", one.Name, "version", one.Version, "classes", one.Classes, "problem", one.Problem)
			}
		}
		if text := strings.Join(problems, "; "); said[""] != text {
			said[""] = text
			log.Warn("ignoring folders that are not versions of a model", "problems", text)
		}
		changed()
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if err := m.Scan(ctx); err != nil && ctx.Err() == nil {
			log.Error("reading the folder of models failed", "error", err)
		}
	}
}

// workVerb computes until ctx ends.
func workVerb(ctx context.Context, args []string, std streams) (err error) {
	var f workFlags
	fs := newFlags("work", std)
	f.register(fs, "-1 is the number of processors")
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	listen := fs.String("listen", "", "address of /live, /ready and /metrics, such as 127.0.0.1:9465; none if empty")
	var level slog.Level
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if f.models.dir == "" {
		return errors.New("-models is missing; name the folder of models to compute with")
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.threads == 0 {
		return errors.New("-threads 0: it must be from 1 to 1024, or -1 for the number of processors")
	}
	if f.threads < 0 {
		f.threads = runtime.GOMAXPROCS(0)
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level}))
	m, err := f.models.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	db, err := store.Open(ctx, *dsn, store.Options{MustExist: true, Works: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w := f.worker(db, m, log)
	stopWeb, err := serveWeb(*listen, newMux(func(ctx context.Context) string { return withoutStore(ctx, db) }, &keyFlags{}, &w.Counts), log)
	if err != nil {
		return err
	}
	defer stopWeb()
	log.Info("ready", "worker", w.ID, "threads", w.Threads, "pid", os.Getpid())
	var running sync.WaitGroup
	running.Go(func() { rescan(ctx, m, log, func() {}) })
	w.Run(ctx)
	running.Wait()
	log.Info("stopped", "answered", w.Counts.Answered.Load(), "failed", w.Counts.Failed.Load(), "again", w.Counts.Postponed.Load(), "lost", w.Counts.Lost.Load())
	return nil
}

// withoutStore returns why the database is unavailable, "" if it is available.
func withoutStore(ctx context.Context, db *store.Store) string {
	if db.Ping(ctx) != nil {
		return "the store does not answer"
	}
	return ""
}
