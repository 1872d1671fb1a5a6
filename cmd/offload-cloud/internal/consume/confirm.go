package consume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/answer"
	"app-offload/functions/seal"
)

const (
	receiptRanges  = 1000             // maximum number of ranges in one receipt; more ranges need several receipts
	receiptTimeout = 10 * time.Second // for the broker to accept the receipts of a group
	streamsMax     = 10_000           // maximum number of streams whose gaps are counted
)

type streamKey struct{ node, epoch string }

// confirmAll sends receipts to the nodes, and then acknowledges the durable messages to the broker. A failed receipt is not retried: the node or the
// broker sends the records again, and they get another receipt.
func (c *Consumer) confirmAll(ctx context.Context, in <-chan *stored) {
	for s := range in {
		var out []Outgoing
		for _, result := range s.results {
			c.Counts.add(result)
			if result.Jobs > 0 && c.OnJobs != nil {
				c.OnJobs()
			}
			c.noteGaps(result.Receipts)
			c.noteConflicts(result.Receipts)
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
			c.printed.print(result.Fresh)
		}
		c.requestRedelivery()
	}
}

// sendReceipts publishes the receipts if there is a connection; without one there is no receiver.
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

// subscribed signals that the subscription is established.
func (c *Consumer) subscribed() {
	select {
	case c.subscriptions <- struct{}{}:
	default: // an announcement is already pending
	}
}

// announceAll announces each new subscription to the nodes: earlier batches may have had no receiver.
func (c *Consumer) announceAll(ctx context.Context) {
	for {
		select {
		case <-c.subscriptions:
		case <-c.stopping:
			return
		}
		err := c.announce(ctx)
		if err != nil {
			c.Log.Warn("announcing the subscription failed; nodes wait for their receipt timeout", "error", err)
		}
	}
}

func (c *Consumer) announce(ctx context.Context) error {
	msg, err := c.Sealer.SealAnnouncement(nil, &seal.Announcement{ID: uuid.NewString(), Consumer: c.Name, Created: time.Now(), Limits: c.Takes})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, receiptTimeout)
	defer cancel()
	return c.Transport.Publish(ctx, []Outgoing{{seal.AnnouncementTopic, msg}})
}

// sealReceipts seals the receipts. On an error it also returns the sealed ones.
func (c *Consumer) sealReceipts(receipts []store.Receipt) (out []Outgoing, err error) {
	for _, r := range receipts {
		safe, gaps, conflicts := convert(r.Safe), convert(r.Gaps), convert(r.Conflicts)
		for first := true; first || len(safe)+len(conflicts) > 0; first = false {
			n, m := min(len(safe), receiptRanges), min(len(conflicts), receiptRanges)
			msg, sealErr := c.Sealer.SealReceipt(nil, &seal.Receipt{
				ID: uuid.NewString(), Node: r.Node, Epoch: r.Epoch, Session: r.Session, Created: time.Now(),
				Safe: safe[:n], Gaps: gaps, Conflicts: conflicts[:m], Limits: c.Takes,
			})
			if sealErr != nil {
				err = errors.Join(err, fmt.Errorf("node %s: %w", r.Node, sealErr))
				break
			}
			out = append(out, Outgoing{seal.ReceiptTopic(r.Node), msg})
			safe, gaps, conflicts = safe[n:], nil, conflicts[m:]
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

// noteGaps updates the number of missing records from the receipts. If a stream has several sessions, the largest number counts.
func (c *Consumer) noteGaps(receipts []store.Receipt) {
	missing := map[streamKey]uint64{}
	for _, r := range receipts {
		key := streamKey{r.Node, r.Epoch}
		var n uint64
		for _, gap := range r.Gaps {
			n += gap.Len()
		}
		missing[key] = max(missing[key], n)
	}
	for key, n := range missing {
		was, known := c.gaps[key]
		if !known && len(c.gaps) >= streamsMax {
			continue
		}
		c.Counts.Gaps.Add(int64(n) - int64(was))
		if n == 0 {
			delete(c.gaps, key)
		} else {
			c.gaps[key] = n
		}
	}
}

// noteConflicts logs the first conflict of each stream; the metrics count all conflicts.
func (c *Consumer) noteConflicts(receipts []store.Receipt) {
	for _, r := range receipts {
		key := streamKey{r.Node, r.Epoch}
		if len(r.Conflicts) == 0 || c.conflicts[key] || len(c.conflicts) >= streamsMax {
			continue
		}
		c.conflicts[key] = true
		c.Log.Error("records differ from those stored under their sequences; they are quarantined, not receipted. "+
			"Was the spool copied or restored, or do two gateways use one node name?",
			"node", r.Node, "epoch", r.Epoch, "session", r.Session, "first", r.Conflicts[0].First, "last", r.Conflicts[len(r.Conflicts)-1].Last)
	}
}

// noteLetter logs the first quarantined message of each reason; the metrics count all of them.
func (c *Consumer) noteLetter(it *item) {
	if it.letter == nil || !c.once.New("letter "+it.letter.Reason, "quarantined") {
		return
	}
	c.Log.Warn("message quarantined; `offload-cloud dead list` shows all of them",
		"reason", it.letter.Reason, "topic", it.letter.Topic, "detail", it.letter.Detail)
}

// noteFull logs when the limit of dead letters is reached, and when there is room again.
func (c *Consumer) noteFull(r *store.Result) {
	if r.Letters+r.LettersRefused == 0 {
		return
	}
	var err error
	if r.LettersRefused > 0 {
		err = errors.New("too many are already kept; inspect them and drop or retry them")
	}
	c.failing("setting unreadable messages aside", err)
}

// requestRedelivery asks the broker to redeliver refused messages once there is room.
func (c *Consumer) requestRedelivery() {
	if c.refused.Load() && c.Counts.StoreUp.Load() && c.roomy() && c.refused.CompareAndSwap(true, false) {
		c.Log.Info("asking the broker to redeliver messages refused while the queue was full", "refused", c.Counts.Refused.Load())
		c.Transport.Redeliver()
	}
}

// failing logs the first failure of an operation and its recovery, but not each failure.
func (c *Consumer) failing(what string, err error) {
	switch failed := c.once.Known(what); {
	case err != nil && c.once.New(what, "fails"):
		c.Log.Error(what+" failed", "error", err)
	case err == nil && failed:
		c.once.New(what, "")
		c.Log.Info(what + " works again")
	}
}

const (
	answersMax  = 64                     // maximum number published together
	answersLook = 250 * time.Millisecond // interval of queries for answers of other processes
	answerAgain = 10 * time.Second       // pause before a result is published again; it doubles each time
)

// answerAll publishes new answers, and answers that their nodes have not confirmed, until the consumer stops. If a taken answer is not published,
// because this process ends or the broker rejects it, any consumer of the store publishes it after the pause.
func (c *Consumer) answerAll(ctx context.Context) {
	tick := time.Tick(answersLook)
	for {
		for c.answerSome(ctx) {
			select {
			case <-c.stopping:
				return
			default:
			}
		}
		select {
		case <-c.stopping:
			return
		case <-c.Computed:
		case <-tick:
		}
	}
}

// answerSome publishes the due answers, and reports whether there may be more.
func (c *Consumer) answerSome(ctx context.Context) bool {
	if !c.Transport.Connected() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, receiptTimeout)
	defer cancel()
	answers, err := c.Answers.TakeAnswers(ctx, answerAgain, answersMax)
	c.failing("reading answers", err)
	if len(answers) == 0 {
		return false
	}
	var out []Outgoing
	var unsealed error
	again := int64(0)
	for _, a := range answers {
		msg, err := c.sealAnswer(a)
		if err != nil {
			unsealed = err
			c.Counts.ResultsFailed.Add(1)
			continue
		}
		out = append(out, Outgoing{seal.ResultTopic(a.Node), msg})
		if a.Sends > 1 {
			again++
		}
	}
	c.failing("sealing results", unsealed)
	err = c.Transport.Publish(ctx, out)
	c.failing("publishing results", err)
	if err != nil {
		c.Counts.ResultsFailed.Add(int64(len(out)))
		return false
	}
	c.Counts.Results.Add(int64(len(out)))
	c.Counts.ResultsAgain.Add(again)
	return len(answers) == answersMax
}

// sealAnswer seals a result.
func (c *Consumer) sealAnswer(a *store.Answered) ([]byte, error) {
	r := &seal.Result{ID: a.ID, Node: a.Node, Created: time.Now(), EventID: a.EventID, Chunk: a.Chunk, Completed: a.At, OK: a.Problem == "", Error: a.Problem}
	if r.OK {
		r.ContentType, r.Payload = answer.ContentType, a.Payload
	}
	return c.Sealer.SealResult(nil, r)
}
