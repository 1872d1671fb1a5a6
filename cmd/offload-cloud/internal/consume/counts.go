package consume

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"app-offload/cmd/offload-cloud/internal/store"
)

// Counts are the consumer's counters since its start; the database keeps long-term counts. They are safe for concurrent use.
type Counts struct {
	Messages         atomic.Int64 // stored or quarantined, and acknowledged
	Records          atomic.Int64 // receipted sequences, new or not
	Tasks            atomic.Int64 // stored for the first time
	DuplicateRecords atomic.Int64
	DuplicateTasks   atomic.Int64
	DeadLetters      atomic.Int64 // messages and records quarantined for the first time
	Conflicts        atomic.Int64 // records that differ from the record stored under their sequence
	LinesDropped     atomic.Int64 // JSON lines dropped because their reader was slow
	Waiting          atomic.Int64 // messages blocked by another database session
	LettersRefused   atomic.Int64 // messages not quarantined because the limit is reached
	Receipts         atomic.Int64
	ReceiptsFailed   atomic.Int64
	Refused          atomic.Int64 // messages left with the broker because the queue was full
	Commits          atomic.Int64
	CommitTime       atomic.Int64 // ns, sum
	StoreErrors      atomic.Int64
	Jobs             atomic.Int64 // records with a job for a worker
	Results          atomic.Int64 // results accepted by the broker, including repetitions
	ResultsAgain     atomic.Int64 // repeated results, published before and not confirmed
	ResultsFailed    atomic.Int64 // results rejected by the broker; they are published again
	Confirmed        atomic.Int64 // results confirmed by nodes
	Gaps             atomic.Int64 // records missing according to the latest receipts
	StoreUp          atomic.Bool
}

func (c *Counts) commit(took time.Duration) {
	c.Commits.Add(1)
	c.CommitTime.Add(int64(took))
}

func (c *Counts) add(r *store.Result) {
	c.Tasks.Add(int64(len(r.Fresh)))
	c.Jobs.Add(int64(r.Jobs))
	c.Confirmed.Add(int64(r.Confirmed))
	c.DuplicateRecords.Add(int64(r.DuplicateRecords))
	c.DuplicateTasks.Add(int64(r.DuplicateTasks))
	c.DeadLetters.Add(int64(r.DeadRecords + r.Letters))
	c.Conflicts.Add(int64(r.Conflicts))
	c.LettersRefused.Add(int64(r.LettersRefused))
	for _, receipt := range r.Receipts {
		for _, s := range receipt.Safe {
			c.Records.Add(int64(s.Len()))
		}
	}
}

// Register registers the metrics with Prometheus.
func (c *Counts) Register(r prometheus.Registerer) {
	counter := func(name, help string, n *atomic.Int64, unit float64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "offload_cloud_" + name, Help: help},
			func() float64 { return float64(n.Load()) * unit }))
	}
	counter("messages_total", "Messages stored or quarantined, and acknowledged.", &c.Messages, 1)
	counter("records_total", "Records receipted, new or not.", &c.Records, 1)
	counter("tasks_total", "Tasks stored for the first time.", &c.Tasks, 1)
	counter("duplicate_records_total", "Records that were already stored.", &c.DuplicateRecords, 1)
	counter("duplicate_tasks_total", "New records whose task was already stored.", &c.DuplicateTasks, 1)
	counter("dead_letters_total", "Messages and records quarantined because they could not be read.", &c.DeadLetters, 1)
	counter("dead_letters_refused_total", "Unreadable messages not quarantined because the table is full.", &c.LettersRefused, 1)
	counter("conflicts_total", "Records that differ from the record stored under their sequence, counted each time they arrive; they are not receipted.", &c.Conflicts, 1)
	counter("lines_dropped_total", "JSON lines dropped because their reader was too slow.", &c.LinesDropped, 1)
	counter("receipts_total", "Receipts accepted by the broker.", &c.Receipts, 1)
	counter("receipts_failed_total", "Receipts that could not be sent; nodes send their records again.", &c.ReceiptsFailed, 1)
	counter("jobs_total", "Stored records with a job for a worker.", &c.Jobs, 1)
	counter("results_total", "Results accepted by the broker, including repetitions.", &c.Results, 1)
	counter("results_again_total", "Results published again because their node had not confirmed them.", &c.ResultsAgain, 1)
	counter("results_failed_total", "Results rejected by the broker; they are published again.", &c.ResultsFailed, 1)
	counter("results_confirmed_total", "Results that nodes confirmed.", &c.Confirmed, 1)
	counter("refused_total", "Messages left with the broker because the queue was full.", &c.Refused, 1)
	counter("commits_total", "Transactions committed.", &c.Commits, 1)
	counter("commit_seconds_total", "Time spent in transactions.", &c.CommitTime, 1e-9)
	counter("store_errors_total", "Transactions that failed and were retried.", &c.StoreErrors, 1)
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "offload_cloud_" + name, Help: help}, value))
	}
	gauge("gaps", "Records missing without an explanation, according to the latest receipts.",
		func() float64 { return float64(c.Gaps.Load()) })
	gauge("waiting", "Messages blocked by another session of the database.",
		func() float64 { return float64(c.Waiting.Load()) })
	gauge("store_up", "Whether the latest transaction was committed.", func() float64 {
		if c.StoreUp.Load() {
			return 1
		}
		return 0
	})
}
