package work

import (
	"context"
	"sync"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
)

// keeper extends the leases of a batch until its jobs are done: a run may exceed a lease, and jobs also wait for their turn.
type keeper struct {
	stop context.CancelFunc
	over sync.WaitGroup

	mu    sync.Mutex
	held  map[int64]bool
	began time.Time // start of the current run; a run without end stops the extension
}

// keep starts to extend the leases.
func (w *Worker) keep(ctx context.Context, id string, jobs []*store.Job) *keeper {
	ctx, stop := context.WithCancel(ctx)
	k := &keeper{stop: stop, held: map[int64]bool{}, began: time.Now()}
	for _, j := range jobs {
		k.held[j.Record] = true
	}
	k.over.Go(func() {
		tick := time.Tick(w.Lease / 3)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
			for _, record := range k.due() {
				held, err := w.Store.RenewJob(ctx, id, record, w.Lease)
				if ctx.Err() != nil {
					return
				}
				if w.failing("extending leases", err); err == nil && !held {
					k.drop(record)
				}
			}
		}
	})
	return k
}

// due returns the jobs whose leases must be extended.
func (k *keeper) due() (records []int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.began) > longestRun {
		return nil
	}
	for record := range k.held {
		records = append(records, record)
	}
	return records
}

// begin reports whether the worker still holds a job.
func (k *keeper) begin(j *store.Job) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.began = time.Now()
	return k.held[j.Record]
}

func (k *keeper) drop(record int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, record)
}

// end stops the extension and waits until it has stopped.
func (k *keeper) end() {
	k.stop()
	k.over.Wait()
}
