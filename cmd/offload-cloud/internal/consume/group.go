package consume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
)

// group is a collection of items for one transaction.
type group struct {
	items          []*item
	records, bytes int
}

func (g *group) add(it *item) {
	g.items = append(g.items, it)
	g.records += it.records
	g.bytes += it.bytes
}

// storable converts items to a group of the store.
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

// stored is a durable group with the results of its transactions.
type stored struct {
	items   []*item
	results []*store.Result
}

// gather opens messages and passes a group on once the store is free; until then the group grows up to its limits. After the stop it empties the
// queue and returns.
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

// storeAll stores the groups of a lane. Messages blocked by other database sessions are kept aside and retried. When ctx ends, unstored messages stay
// unacknowledged, to be delivered again.
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
		c.refused.Store(true) // before the send on out, which triggers the request for redelivery
	}
	if err != nil {
		return // only at the stop; the items stay unacknowledged
	}
	w.add(o)
	if len(o.results) > 0 {
		c.Counts.commit(time.Since(began))
		out <- &stored{o.done, o.results}
	}
}

// persist commits a group. It retries with growing pauses while the store fails for other reasons than the group. It returns an error only if the
// group is at fault or blocked, or at the stop.
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

// storeIs records whether the store works, and logs changes.
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
