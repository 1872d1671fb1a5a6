package consume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
)

// group is what becomes one transaction.
type group struct {
	items          []*item
	records, bytes int
}

func (g *group) add(it *item) {
	g.items = append(g.items, it)
	g.records += it.records
	g.bytes += it.bytes
}

// storable is the group as the store takes it.
func storable(items []*item, hasty bool) *store.Group {
	g := &store.Group{Hasty: hasty}
	for _, it := range items {
		switch {
		case it.letter != nil:
			g.Letters = append(g.Letters, it.letter)
		case it.gone != nil:
			g.Gone = append(g.Gone, it.gone)
		case it.confirmed != nil:
			g.Confirmed = append(g.Confirmed, it.confirmed)
		default:
			g.Batches = append(g.Batches, it.batch)
		}
	}
	return g
}

// stored is a group that is durable, with all that the transactions for it came to.
type stored struct {
	items   []*item
	results []*store.Result
}

// gather opens messages and hands a group over as soon as the store is free; until then the group grows to its limits.
// After the stop it empties the queue and ends.
func (c *Consumer) gather(queue <-chan *Message, out chan<- *group) {
	defer close(out)
	g := &group{}
	for {
		in, to, stop := queue, out, c.stopping
		if g.records >= int(c.groupMax.Load()) || g.bytes >= c.Limits.GroupMiB<<20/c.Limits.Lanes {
			in = nil
		}
		if len(g.items) == 0 {
			to = nil
		} else {
			stop = nil
		}
		select {
		case m := <-in:
			g.add(open(c.Opener, m))
		case to <- g:
			g = &group{}
		case <-stop:
			if len(queue) == 0 {
				return
			}
		}
	}
}

// storeAll stores the groups of a lane. What other sessions of the database hold up waits aside and is tried again. Once ctx ends, what is not
// stored is left to be delivered again.
func (c *Consumer) storeAll(ctx context.Context, lane int, in <-chan *group, out chan<- *stored) {
	w := newWaiting(c, lane)
	defer w.stop()
	for {
		var items []*item
		hasty := false
		select {
		case g, more := <-in:
			if !more {
				c.storeItems(ctx, w.take(), true, w, out)
				return
			}
			items = w.behind(g.items)
		case <-w.again():
			items, hasty = w.take(), true
		}
		c.storeItems(ctx, items, hasty, w, out)
	}
}

func (c *Consumer) storeItems(ctx context.Context, items []*item, hasty bool, w *waiting, out chan<- *stored) {
	if len(items) == 0 {
		return
	}
	began, l := time.Now(), &c.lanes[w.lane]
	l.began.Store(&began)
	o := &outcome{hasty: hasty, held: map[string]bool{}}
	err := c.storeGroup(ctx, items, o)
	if l.began.Store(nil); l.owed.Swap(false) {
		c.refused.Store(true) // before out is, or there may be nothing left that asks for it
	}
	if err != nil {
		return // only at the stop: nothing of it is acknowledged
	}
	w.add(o)
	if len(o.results) > 0 {
		c.Counts.commit(time.Since(began))
		out <- &stored{o.done, o.results}
	}
}

// persist commits, pausing longer and longer while the store fails for reasons of its own. It returns an error only if that
// error is the group's fault, if the group is blocked, or at the stop.
func (c *Consumer) persist(ctx context.Context, g *store.Group) (*store.Result, error) {
	pause := c.Limits.BackoffMin
	for {
		attempt, cancel := context.WithTimeout(ctx, c.Limits.CommitTimeout)
		result, err := c.Store.Commit(attempt, g)
		cancel()
		if err == nil || c.Store.Permanent(err) {
			c.storeIs(true, nil)
			return result, err
		}
		if locked, slow := c.Store.Blocked(err); (locked || slow) && ctx.Err() == nil {
			c.storeIs(true, nil)
			return nil, &blockedError{err, slow}
		}
		c.Counts.StoreErrors.Add(1)
		if ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		c.storeIs(false, err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return nil, fmt.Errorf("stopping while the store fails: %w", err)
		}
		pause = min(2*pause, c.Limits.BackoffMax)
	}
}

// storeIs notes whether the store works and logs when that changes.
func (c *Consumer) storeIs(up bool, err error) {
	if c.Counts.StoreUp.Swap(up) == up {
		return
	}
	if up {
		c.Log.Info("the store works again, storing held messages")
		return
	}
	c.Log.Error("the store failed, acknowledging and receipting nothing until it works again", "error", err)
}
