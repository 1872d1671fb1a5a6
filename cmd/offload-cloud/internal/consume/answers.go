package consume

import (
	"context"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/answer"
	"app-offload/functions/seal"
)

const (
	answersMax  = 64                     // published together
	answersLook = 250 * time.Millisecond // between two looks, for what other processes have computed
	answerAgain = 10 * time.Second       // before a result is published a second time; then it doubles
)

// answerAll publishes what was computed, and what nodes have not confirmed, until the consumer stops. One that is taken and then not
// published, because this process ends or the broker does not take it, is published after the pause by any consumer of the store.
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

// answerSome publishes what is due, and reports whether there may be more.
func (c *Consumer) answerSome(ctx context.Context) bool {
	if !c.Transport.Connected() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, receiptTimeout)
	defer cancel()
	answers, err := c.Answers.TakeAnswers(ctx, answerAgain, answersMax)
	c.failing("looking for answers", err)
	if len(answers) == 0 {
		return false
	}
	var out []Outgoing
	for _, a := range answers {
		msg, err := c.sealAnswer(a)
		c.failing("sealing results", err)
		if err != nil {
			c.Counts.ResultsFailed.Add(1)
			continue
		}
		out = append(out, Outgoing{seal.ResultTopic(a.Node), msg})
	}
	err = c.Transport.Publish(ctx, out)
	c.failing("publishing results", err)
	if err != nil {
		c.Counts.ResultsFailed.Add(int64(len(out)))
		return false
	}
	c.Counts.Results.Add(int64(len(out)))
	for _, a := range answers {
		if a.Sends > 1 {
			c.Counts.ResultsAgain.Add(1)
		}
	}
	return len(answers) == answersMax
}

// sealAnswer makes the message of a result.
func (c *Consumer) sealAnswer(a *store.Answered) ([]byte, error) {
	r := &seal.Result{ID: a.ID, Node: a.Node, Created: time.Now(), EventID: a.EventID, Chunk: a.Chunk, Completed: a.At, OK: a.Problem == "", Error: a.Problem}
	if r.OK {
		r.ContentType, r.Payload = answer.ContentType, a.Payload
	}
	return c.Sealer.SealResult(nil, r)
}
