package consume

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// Each metric has its own name, and the unit in the name.
func TestEachFigureHasItsName(t *testing.T) {
	c := &Counts{}
	fields := reflect.ValueOf(c).Elem()
	for i := range fields.NumField() {
		if n, ok := fields.Field(i).Addr().Interface().(*atomic.Int64); ok {
			n.Store(int64(i + 1))
		}
	}
	c.CommitTime.Store(int64(2500 * time.Millisecond))
	c.StoreUp.Store(true)
	registry := prometheus.NewRegistry()
	c.Register(registry)
	have := map[string]float64{}
	gathered, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range gathered {
		m := family.GetMetric()[0]
		have[strings.TrimPrefix(family.GetName(), "offload_cloud_")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	load := func(n *atomic.Int64) float64 { return float64(n.Load()) }
	require.Equal(t, map[string]float64{
		"messages_total": load(&c.Messages), "records_total": load(&c.Records), "tasks_total": load(&c.Tasks),
		"duplicate_records_total": load(&c.DuplicateRecords), "duplicate_tasks_total": load(&c.DuplicateTasks),
		"dead_letters_total": load(&c.DeadLetters), "dead_letters_refused_total": load(&c.LettersRefused), "conflicts_total": load(&c.Conflicts),
		"lines_dropped_total": load(&c.LinesDropped), "receipts_total": load(&c.Receipts), "receipts_failed_total": load(&c.ReceiptsFailed),
		"jobs_total": load(&c.Jobs), "results_total": load(&c.Results), "results_again_total": load(&c.ResultsAgain),
		"results_failed_total": load(&c.ResultsFailed), "results_confirmed_total": load(&c.Confirmed), "refused_total": load(&c.Refused),
		"commits_total": load(&c.Commits), "commit_seconds_total": 2.5, "store_errors_total": load(&c.StoreErrors),
		"gaps": load(&c.Gaps), "waiting": load(&c.Waiting), "store_up": 1,
	}, have)
	c.StoreUp.Store(false)
	gathered, err = registry.Gather()
	require.NoError(t, err)
	for _, family := range gathered {
		if family.GetName() == "offload_cloud_store_up" {
			require.Zero(t, family.GetMetric()[0].GetGauge().GetValue())
		}
	}
}

// The results of a transaction are added to the metrics, twice for two transactions.
func TestWhatATransactionDidIsCounted(t *testing.T) {
	c := &Counts{}
	for range 2 {
		c.add(&store.Result{
			Receipts: []store.Receipt{{Safe: spans(1, 5)}, {Safe: spans(7, 7)}}, Fresh: make([]store.Fresh, 2), DuplicateRecords: 3, DuplicateTasks: 4,
			DeadRecords: 5, Conflicts: 6, Letters: 7, LettersRefused: 8, Confirmed: 9, Jobs: 10,
		})
		c.commit(time.Second)
	}
	require.Equal(t, []int64{12, 4, 6, 8, 24, 12, 16, 18, 20, 2, int64(2 * time.Second)}, []int64{
		c.Records.Load(), c.Tasks.Load(), c.DuplicateRecords.Load(), c.DuplicateTasks.Load(), c.DeadLetters.Load(), c.Conflicts.Load(),
		c.LettersRefused.Load(), c.Confirmed.Load(), c.Jobs.Load(), c.Commits.Load(), c.CommitTime.Load(),
	})
}

func TestTheReasonsOfUnreadableMessages(t *testing.T) {
	for want, err := range map[string]error{
		"unknown key": &seal.UnknownKeyError{KeyID: "k"}, "forged": seal.ErrForged, "too large": &seal.TooLargeError{}, "wrong topic": errTopic, "malformed": errors.New("x"),
	} {
		require.Equal(t, want, reason(err))
		require.Equal(t, want, reason(fmt.Errorf("opening: %w", err)))
	}
}

// A node's reason for gone records is stored as far as it is printable, and never as one of the store's own fates.
func TestTheFatesOfRecords(t *testing.T) {
	for said, want := range map[string]string{
		"": "unexplained", "full": "full", store.Stored: "node: " + store.Stored, store.Dead: "node: " + store.Dead,
		strings.Repeat("x", reasonsMax): strings.Repeat("x", reasonsMax), strings.Repeat("x", reasonsMax+1): strings.Repeat("x", reasonsMax),
		strings.Repeat("x", reasonsMax-1) + "é": strings.Repeat("x", reasonsMax-1),
	} {
		require.Equal(t, want, fate(said), "%q", said)
	}
	for _, odd := range []string{"a\nb", "\xff", strings.Repeat("\x00", 100)} {
		require.True(t, isShown(fate(odd)), "%q", odd)
		require.LessOrEqual(t, len(fate(odd)), reasonsMax+len("…"))
	}
}

func TestSequencesAndNamesFitTheTables(t *testing.T) {
	for _, c := range []struct {
		first, last uint64
		good        bool
	}{{0, 0, true}, {1, 1, true}, {1, 2, true}, {2, 1, false}, {1, math.MaxInt64 - 1, true}, {1, math.MaxInt64, false}, {math.MaxUint64, math.MaxUint64, false}} {
		require.Equal(t, c.good, inRange(c.first, c.last) == nil, "%v", c)
	}
	long := strings.Repeat("n", namesMax)
	for name, good := range map[string]bool{"n1": true, "": true, long: true, long + "n": false, "a\x00": false, "a\n": false, "\xff": false, "ü/": true} {
		require.Equal(t, good, checkNames(name, "e") == nil, "%.20q", name)
		require.Equal(t, good, checkNames("n", name) == nil, "%.20q", name)
	}
	for topic, want := range map[string][2]string{
		"offload/v1/n1/batch": {"n1", "batch"}, "offload/v1/n1/batch/c/x": {"n1", "batch"}, "offload/v1/n1": {"n1", ""}, "offload/v1/": {"", ""}, "offload/v2/n1/batch": {"", ""}, "": {"", ""},
	} {
		node, kind := splitTopic(topic)
		require.Equal(t, want, [2]string{node, kind}, topic)
	}
}

// The texts of a dead letter are bounded and printable; its topic stays unchanged if it may be valid.
func TestTheTextsOfADeadLetterAreBounded(t *testing.T) {
	for _, topic := range []string{"offload/v1/n1/batch", strings.Repeat("t", textMax), strings.Repeat("t", textMax+1), strings.Repeat("\xff", 60000)} {
		l := letter(&Message{Topic: topic, Payload: []byte("raw")}, "malformed", strings.Repeat("\x7f", 1<<20))
		if len(topic) <= textMax {
			require.Equal(t, topic, l.Topic)
		}
		require.LessOrEqual(t, len(l.Topic), textMax+len("…"))
		require.LessOrEqual(t, len(l.Detail), textMax+8)
		require.True(t, utf8.ValidString(l.Detail))
		require.Equal(t, "raw", string(l.Raw))
	}
	require.Equal(t, "n1", letter(&Message{Topic: "offload/v1/n1/batch"}, "", "").Node)
}
