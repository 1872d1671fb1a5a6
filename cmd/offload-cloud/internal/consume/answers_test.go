package consume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/answer"
	"app-offload/functions/seal"
)

// desk returns each answer once.
type desk struct {
	mu      sync.Mutex
	answers []*store.Answered
	looks   int
	fail    error
}

func (d *desk) TakeAnswers(_ context.Context, _ time.Duration, limit int) ([]*store.Answered, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	n := min(limit, len(d.answers))
	taken := d.answers[:n]
	d.answers = d.answers[n:]
	return taken, d.fail
}

func computing(t *testing.T, d *desk) (c *Consumer, p *pipe, s *shelf, computed chan struct{}, stop func()) {
	t.Helper()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	p, s, computed = &pipe{}, &shelf{}, make(chan struct{}, 1)
	c = &Consumer{
		Transport: p, Store: s, Opener: seal.NewOpener(nil, seal.Limits{}), Sealer: sealer, Log: slog.New(slog.DiscardHandler), Answers: d, Computed: computed,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	synctest.Wait()
	return c, p, s, computed, func() { cancel(); require.NoError(t, <-ended) }
}

func (p *pipe) results(t *testing.T) (all []*seal.Result) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.out {
		require.Equal(t, seal.ResultTopic("n1"), o.Topic)
		r, err := seal.NewOpener(nil, seal.Limits{}).OpenResult(o.Payload)
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

// All answers are published: immediately if this process computes them, otherwise within one polling interval.
func TestAnswersArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		c, p, _, computed, stop := computing(t, d)
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		d.mu.Lock()
		d.answers = []*store.Answered{
			{ID: "1-a", Node: "n1", EventID: "e-1", At: at, Sends: 1, Outcome: store.Outcome{Record: 1, Payload: []byte(`{"x":1}`)}},
			{ID: "2-b", Node: "n1", EventID: "e-2", Chunk: 3, At: at, Sends: 2, Outcome: store.Outcome{Record: 2, Problem: "no such reading"}},
		}
		d.mu.Unlock()
		computed <- struct{}{}
		synctest.Wait()
		got := p.results(t)
		require.Len(t, got, 2)
		require.Equal(t, []any{"1-a", "e-1", true, answer.ContentType, `{"x":1}`, at}, []any{got[0].ID, got[0].EventID, got[0].OK, got[0].ContentType, string(got[0].Payload), got[0].Completed})
		require.Equal(t, []any{"2-b", 3, false, "no such reading", ""}, []any{got[1].ID, got[1].Chunk, got[1].OK, got[1].Error, got[1].ContentType})
		require.Equal(t, []int64{2, 1}, []int64{c.Counts.Results.Load(), c.Counts.ResultsAgain.Load()})
		d.mu.Lock()
		for n := range 3 * answersMax {
			d.answers = append(d.answers, &store.Answered{ID: fmt.Sprint(n, "-c"), Node: "n1", EventID: "e", At: at, Sends: 1})
		}
		d.mu.Unlock()
		time.Sleep(answersLook)
		synctest.Wait()
		require.Len(t, p.results(t), 2+3*answersMax)
		stop()
	})
}

// An answer that cannot be sealed is counted, logged once, and does not affect the others.
func TestAnAnswerThatCannotBeSealedHarmsOnlyItself(t *testing.T) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	log, p, at := &bytes.Buffer{}, &pipe{}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	never := at.AddDate(10_000, 0, 0) // no message can hold it
	c := &Consumer{Transport: p, Sealer: sealer, Log: slog.New(slog.NewTextHandler(log, nil)), Answers: &desk{answers: []*store.Answered{
		{ID: "1-a", Node: "n1", EventID: "e-1", At: at, Sends: 1}, {ID: "2-b", Node: "n1", EventID: "e-2", At: never, Sends: 2}, {ID: "3-c", Node: "n1", EventID: "e-3", At: at, Sends: 1},
	}}}
	c.answerSome(t.Context())
	require.Len(t, p.results(t), 2)
	require.Equal(t, []int64{2, 1, 0}, []int64{c.Counts.Results.Load(), c.Counts.ResultsFailed.Load(), c.Counts.ResultsAgain.Load()})
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
}

// Without a connection, no answers are taken. Answers that the broker rejects are counted, and a failing database is queried again.
func TestAnswersWaitForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		c, p, _, _, stop := computing(t, d)
		p.mu.Lock()
		p.down = true
		p.mu.Unlock()
		d.mu.Lock()
		looks := d.looks
		d.answers = []*store.Answered{{ID: "1-a", Node: "n1", EventID: "e-1", At: time.Now(), Sends: 1}}
		d.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, d.looks, looks+1)
		require.Len(t, d.answers, 1)
		p.mu.Lock()
		p.down, p.lost = false, errors.New("no acknowledgement")
		p.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []int64{0, 1}, []int64{c.Counts.Results.Load(), c.Counts.ResultsFailed.Load()})
		d.mu.Lock()
		d.fail = errors.New("no database")
		d.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		d.mu.Lock()
		require.Greater(t, d.looks, looks+4)
		d.mu.Unlock()
		stop()
	})
}

// A confirmation is stored before it is acknowledged to the broker, and one that names another node is quarantined.
func TestConfirmationsAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, s, _, stop := computing(t, &desk{})
		msg, err := c.Sealer.SealConfirmation(nil, &seal.Confirmation{
			ID: "c", Node: "n1", Created: time.Now(), Results: []seal.ConfirmedResult{{ID: "1-a"}, {ID: "2-b", Refused: "no such\x00device"}},
		})
		require.NoError(t, err)
		require.Equal(t, 2, open(c.Opener, &Message{Topic: seal.ConfirmTopic("n1"), Payload: msg}).records, "each takes its share of a transaction")
		require.True(t, p.send("right", seal.ConfirmTopic("n1"), msg))
		require.True(t, p.send("wrong", seal.ConfirmTopic("n2"), msg))
		require.True(t, p.send("garbage", seal.ConfirmTopic("n1"), []byte("x")))
		synctest.Wait()
		require.ElementsMatch(t, []string{"right", "wrong", "garbage"}, p.acks())
		var confirmed []*store.Confirmed
		letters := map[string]int{}
		for _, g := range s.groups {
			confirmed = append(confirmed, g.Confirmed...)
			for _, l := range g.Letters {
				letters[l.Reason]++
			}
		}
		require.Len(t, confirmed, 1)
		require.Equal(t, "n1", confirmed[0].Node)
		require.Equal(t, "1-a", confirmed[0].Results[0].ID)
		require.Equal(t, `no such\x00device`, confirmed[0].Results[1].Refused, "fit to be shown and kept")
		require.Equal(t, map[string]int{"wrong topic": 1, "malformed": 1}, letters)
		stop()
	})
}

// A confirmation that was quarantined, such as for a missing key, is stored by a retry.
func TestAQuarantinedConfirmationIsReadAgain(t *testing.T) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	msg, err := sealer.SealConfirmation(nil, &seal.Confirmation{ID: "c", Node: "n1", Created: time.Now(), Results: []seal.ConfirmedResult{{ID: "1-a"}}})
	require.NoError(t, err)
	g, err := Open(seal.NewOpener(nil, seal.Limits{}), &store.Letter{Topic: seal.ConfirmTopic("n1"), Raw: msg})
	require.NoError(t, err)
	require.Equal(t, &store.Group{Confirmed: []*store.Confirmed{{Node: "n1", Results: []store.ConfirmedResult{{ID: "1-a"}}}}}, g)
	_, err = Open(seal.NewOpener(nil, seal.Limits{}), &store.Letter{Topic: seal.ConfirmTopic("n2"), Raw: msg})
	require.ErrorIs(t, err, errTopic)
}
