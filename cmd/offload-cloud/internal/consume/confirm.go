package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

const (
	receiptRanges  = 1000             // most ranges in one receipt; more are spread over several
	receiptTimeout = 10 * time.Second // for the broker to take the receipts of a group
	streamsMax     = 10_000           // most streams whose gaps are remembered for the figures
)

type streamKey struct{ node, epoch string }

// confirmAll tells the nodes, then the broker, what is durable. A receipt that cannot be sent is not tried again: the
// node sends the records again, or the broker does, and gets another.
func (c *Consumer) confirmAll(ctx context.Context, in <-chan *stored) {
	for s := range in {
		var out []Outgoing
		for _, result := range s.results {
			c.Counts.add(result)
			c.noteGaps(result.Receipts)
			c.noteFull(result)
			sealed, err := c.sealReceipts(result.Receipts)
			c.failing("sealing receipts", err)
			out = append(out, sealed...)
		}
		c.Counts.Messages.Add(int64(len(s.items)))
		c.sendReceipts(ctx, out)
		for _, it := range s.items {
			c.noteLetter(it)
			it.message.Ack()
			c.release(it.message)
		}
		for _, result := range s.results {
			c.failing("writing JSON lines", c.writeLines(result.Fresh))
		}
		c.askAgain()
	}
}

// sendReceipts publishes while there is a connection; without one there is nobody to send to.
func (c *Consumer) sendReceipts(ctx context.Context, out []Outgoing) {
	if len(out) == 0 || !c.Transport.Connected() {
		c.Counts.ReceiptsFailed.Add(int64(len(out)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, receiptTimeout)
	defer cancel()
	err := c.Transport.Publish(ctx, out)
	c.failing("sending receipts", err)
	if err != nil {
		c.Counts.ReceiptsFailed.Add(int64(len(out)))
		return
	}
	c.Counts.Receipts.Add(int64(len(out)))
}

// sealReceipts makes the messages of the receipts. What can be sealed is returned beside an error.
func (c *Consumer) sealReceipts(receipts []store.Receipt) (out []Outgoing, err error) {
	for _, r := range receipts {
		safe, gaps := convert(r.Safe), convert(r.Gaps)
		for first := true; first || len(safe) > 0; first = false {
			n := min(len(safe), receiptRanges)
			msg, sealErr := c.Sealer.SealReceipt(nil, &seal.Receipt{
				ID: uuid.NewString(), Node: r.Node, Epoch: r.Epoch, Created: time.Now(), Safe: safe[:n], Gaps: gaps,
			})
			if sealErr != nil {
				err = errors.Join(err, fmt.Errorf("node %s: %w", r.Node, sealErr))
				break
			}
			out = append(out, Outgoing{seal.ReceiptTopic(r.Node), msg})
			safe, gaps = safe[n:], nil
		}
	}
	return out, err
}

func convert(spans []ranges.Span) []seal.Range {
	out := make([]seal.Range, len(spans))
	for i, s := range spans {
		out[i] = seal.Range{First: s.First, Last: s.Last}
	}
	return out
}

// noteGaps keeps the number of missing records up to date, as far as the receipts name them.
func (c *Consumer) noteGaps(receipts []store.Receipt) {
	for _, r := range receipts {
		key := streamKey{r.Node, r.Epoch}
		var n uint64
		for _, gap := range r.Gaps {
			n += gap.Len()
		}
		c.Counts.Gaps.Add(int64(n) - int64(c.gaps[key]))
		if n == 0 {
			delete(c.gaps, key)
		} else if _, known := c.gaps[key]; known || len(c.gaps) < streamsMax {
			c.gaps[key] = n
		} else {
			c.Counts.Gaps.Add(-int64(n))
		}
	}
}

// noteLetter logs the first message of each reason that was set aside; the figures count the others.
func (c *Consumer) noteLetter(it *item) {
	if it.letter == nil || c.states[it.letter.Reason] {
		return
	}
	c.states[it.letter.Reason] = true
	c.Log.Warn("a message could not be read and was set aside; `offload-cloud dead list` shows all of them",
		"reason", it.letter.Reason, "topic", it.message.Topic, "detail", it.letter.Detail)
}

// noteFull logs when there is no more room for dead letters, and when there is again.
func (c *Consumer) noteFull(r *store.Result) {
	if r.Letters+r.LettersRefused == 0 {
		return
	}
	var err error
	if r.LettersRefused > 0 {
		err = errors.New("too many are kept already; look at them and drop or retry them")
	}
	c.failing("setting unreadable messages aside", err)
}

// askAgain has the broker send what was refused, once there is room for it.
func (c *Consumer) askAgain() {
	if c.refused.Load() && c.Counts.StoreUp.Load() && len(c.queue) <= cap(c.queue)/2 && c.refused.CompareAndSwap(true, false) {
		c.Log.Info("asking the broker for what was refused while the queue was full", "refused", c.Counts.Refused.Load())
		c.Transport.Redeliver()
	}
}

// failing logs when something begins to fail and when it works again, not each time.
func (c *Consumer) failing(what string, err error) {
	if c.states[what] == (err != nil) {
		return
	}
	c.states[what] = err != nil
	if err != nil {
		c.Log.Error(what+" fails", "error", err)
		return
	}
	c.Log.Info(what + " works again")
}
