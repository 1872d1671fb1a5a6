package main

import (
	"context"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/clients/logger"

	"app-offload/cmd/app-offload/internal/dashboard"
	"app-offload/functions"
	"app-offload/functions/clock"
	"app-offload/functions/status"
)

// watcher reads the status every two seconds, for the page's history, EdgeX's telemetry and the log.
type watcher struct {
	service   *functions.Service
	page      *dashboard.Dashboard
	telemetry *telemetry // nil where EdgeX has no metrics manager
	log       logger.LoggingClient
	failed    bool // the last telemetry update
}

// run reads the status until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := clock.NewTicker(dashboard.Every)
	defer tick.Stop()
	for {
		w.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watcher) look(now time.Time) {
	st := w.service.Status()
	for _, c := range w.page.Observe(now, &st, w.service.Config().Writable.Policy.BacklogLimit) {
		w.report(c)
	}
	if w.telemetry == nil {
		return
	}
	if st.Health.Severity("intake") != status.Fine { // the bus is down, and telemetry with it
		w.telemetry.pause()
		return
	}
	err := w.telemetry.update(&st)
	if err != nil && !w.failed {
		w.log.Warnf("publishing telemetry failed: error=%q", err)
	}
	w.failed = err != nil
}

// ownLines are the changes that the watcher logs because the part concerned does not. The service logs the reasons of its health itself.
var ownLines = map[string]bool{"spool": true, "policy": true, "ready": true}

// report logs a change of state.
func (w *watcher) report(c dashboard.Change) {
	switch {
	case !ownLines[c.About]:
	case c.Good:
		w.log.Infof("%s: %s", c.About, c.Text)
	default:
		w.log.Warnf("%s: %s", c.About, c.Text)
	}
}
