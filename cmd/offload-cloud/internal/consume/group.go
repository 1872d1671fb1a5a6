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
func storable(items []*item) *store.Group {
	g := &store.Group{}
	for _, it := range items {
		switch {
		case it.letter != nil:
			g.Letters = append(g.Letters, it.letter)
		case it.gone != nil:
			g.Gone = append(g.Gone, it.gone)
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
func (c *Consumer) gather(out chan<- *group) {
	defer close(out)
	g := &group{}
	for {
		in, to, stop := c.queue, out, c.stopping
		if g.records >= c.Limits.GroupRecords || g.bytes >= c.Limits.GroupMiB<<20 {
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
			if len(c.queue) == 0 {
				return
			}
		}
	}
}

// storeAll stores group after group. Once ctx ends, what is not stored is left to be delivered again.
func (c *Consumer) storeAll(ctx context.Context, in <-chan *group, out chan<- *stored) {
	defer close(out)
	for g := range in {
		began := time.Now()
		results, err := c.storeGroup(ctx, g.items)
		if err != nil {
			continue // only at the stop: nothing of it is acknowledged
		}
		c.Counts.commit(time.Since(began))
		out <- &stored{g.items, results}
	}
}

// storeGroup stores the items in one transaction, trying again for as long as the store fails. A transaction that fails because
// of what it holds is taken apart, so that the one bad message among many harms only itself.
func (c *Consumer) storeGroup(ctx context.Context, items []*item) ([]*store.Result, error) {
	result, err := c.persist(ctx, storable(items))
	if err == nil {
		return []*store.Result{result}, nil
	}
	if !c.Store.Permanent(err) {
		return nil, err
	}
	if len(items) == 1 {
		return c.setAside(ctx, items[0], err)
	}
	var results []*store.Result
	for _, it := range items {
		r, err := c.storeGroup(ctx, []*item{it})
		if err != nil {
			return nil, err
		}
		results = append(results, r...)
	}
	return results, nil
}

// setAside makes a letter of a message that the store refuses for good.
func (c *Consumer) setAside(ctx context.Context, it *item, why error) ([]*store.Result, error) {
	if it.letter != nil {
		c.Log.Error("a message can be neither stored nor set aside; it is dropped, its node still has it",
			"topic", it.message.Topic, "reason", it.letter.Reason, "error", why)
		return []*store.Result{{LettersRefused: 1}}, nil
	}
	node, _ := splitTopic(it.message.Topic)
	it.letter = &store.Letter{Topic: it.message.Topic, Node: node, Reason: "not storable", Detail: why.Error(), Raw: it.message.Payload}
	it.batch, it.gone = nil, nil
	return c.storeGroup(ctx, []*item{it})
}

// persist commits, pausing longer and longer while the store fails for reasons of its own. It returns an error only if that
// error is the group's fault, or at the stop.
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
		c.Log.Info("the store works again; what was held back is being stored")
		return
	}
	c.Log.Error("the store fails; nothing is acknowledged or receipted until it works again", "error", err)
}
