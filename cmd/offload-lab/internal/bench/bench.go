// Package bench measures the whole service as a user runs it, beside the least that any subscriber has to do.
//
// A case starts a broker, what is measured, a consumer and a load, each in a process of its own but for the consumer,
// which is the bench itself. Every event that was published is looked for at the other end: a case that has lost or
// doubled one is an error, however fast it was. Figures of different cases may be compared when they are of one run.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app-offload/functions/policy"
)

// Options say what to measure.
type Options struct {
	Bin, Res  string        // folders with the binaries and with configuration.yaml
	Dir       string        // where spools and the log go
	Mosquitto string        // the program
	Brokers   string        // both, all, or a list
	Policies  string        // comma-separated
	Confirm   string        // comma-separated: puback, receipt
	QoS       string        // comma-separated: 0, 1
	Form      string        // of the service's messages: json or protobuf
	Env       []string      // further settings of the service
	Events    int           // a case
	Window    int           // events that may be under way from end to end
	Rate      int           // events a second, 0 for as many as are taken
	Rounds    int           // how often all cases are measured, in turn
	Idle      time.Duration // without events, instead of a load; 0 for a load
	Drain     bool          // measure how the service's events leave once all of them lie in its spool
	JSON      bool          // print JSON objects, and the table on the standard error
	Markdown  bool          // of the table
	Rows      string        // variations to measure, in turn: all, or some of rowNames; "" for the options as they are
	Hold      string        // file with ratios that must not be exceeded; see hold

	readings, size, quota, procs int // of a variation
}

// DefaultOptions are those of `make bench`.
func DefaultOptions() Options {
	return Options{
		Bin: "bin", Res: "res", Mosquitto: "/usr/sbin/mosquitto", Brokers: "both", Policies: "cloud,edge,weighted",
		Confirm: "puback,receipt", QoS: "1,0", Form: "json", Events: 200_000, Window: 8192, Rounds: 1,
	}
}

// Case is one measurement: the floor, or the service under a policy.
type Case struct {
	Row     string `json:"row,omitempty"` // the variation
	Broker  string `json:"broker"`
	Subject string `json:"subject"` // floor or service
	Policy  string `json:"policy,omitempty"`
	Confirm string `json:"confirm,omitempty"`
	QoS     int    `json:"qos"` // of what the load publishes
}

func (c Case) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s QoS %d", c.Row, c.Broker, c.Subject, c.Policy, c.Confirm, c.QoS))
}

// edgePolicy keeps all here, so that how the cloud confirms makes no difference.
const edgePolicy = "edge"

// cases lists what the options ask for, the floor before what is held against it.
func (o Options) cases() ([]Case, error) {
	kinds, err := brokersOf(o.Brokers)
	if err != nil {
		return nil, err
	}
	rows, err := variationsOf(o.Rows)
	if err != nil {
		return nil, err
	}
	var all []Case
	for _, v := range rows {
		all = append(all, o.casesOf(v, kinds)...)
	}
	return all, nil
}

// casesOf lists the cases of a row.
func (o Options) casesOf(v variation, kinds []string) (all []Case) {
	for _, kind := range kinds {
		for q := range strings.SplitSeq(o.QoS, ",") {
			qos := int(q[0] - '0') // validated
			all = append(all, Case{Row: v.name, Broker: kind, Subject: "floor", QoS: qos})
			for policy := range strings.SplitSeq(cmp.Or(v.policy, o.Policies), ",") {
				for i, confirm := range strings.Split(o.Confirm, ",") {
					if i == 0 || policy != edgePolicy {
						all = append(all, Case{v.name, kind, "service", policy, confirm, qos})
					}
				}
			}
		}
	}
	return all
}

func (o Options) validate() error {
	var errs []error
	if o.Events < 1 || o.Events > 1<<30 {
		errs = append(errs, fmt.Errorf("-events %d: must be 1 to %d", o.Events, 1<<30))
	}
	for q := range strings.SplitSeq(o.QoS, ",") {
		if q != "0" && q != "1" {
			errs = append(errs, fmt.Errorf("-qos %q: must be 0, 1 or both with a comma", o.QoS))
		}
	}
	if o.Rate < 0 || o.Rate > 1_000_000 {
		errs = append(errs, fmt.Errorf("-rate %d: must be 0 to 1000000", o.Rate))
	}
	if o.Rounds < 1 || o.Rounds > 99 {
		errs = append(errs, fmt.Errorf("-rounds %d: must be 1 to 99", o.Rounds))
	}
	if o.Idle != 0 && (o.Idle < time.Second || o.Idle > time.Hour) {
		errs = append(errs, fmt.Errorf("-idle %v: must be 1s to 1h, or 0 for a load", o.Idle))
	}
	if o.Drain && (o.Idle != 0 || o.Rate != 0) {
		errs = append(errs, errors.New("-drain: has no meaning beside -idle or -rate"))
	}
	if o.Window < batchSize || o.Window > 10_000 {
		errs = append(errs, fmt.Errorf("-window %d: must be %d to 10000, beyond which the embedded broker drops", o.Window, batchSize))
	}
	for name := range strings.SplitSeq(o.Policies, ",") {
		if err := policy.Known(name); err != nil {
			errs = append(errs, fmt.Errorf("-policies: %w", err))
		}
	}
	for confirm := range strings.SplitSeq(o.Confirm, ",") {
		if confirm != "puback" && confirm != "receipt" {
			errs = append(errs, fmt.Errorf("-confirm %q: must be puback, receipt or both with a comma", o.Confirm))
		}
	}
	if o.Form != "json" && o.Form != "protobuf" {
		errs = append(errs, fmt.Errorf("-form %q: must be json or protobuf", o.Form))
	}
	return errors.Join(errs...)
}

// Run measures all cases and prints each as soon as it is known. It goes on after a case that failed, and reports all
// failures together.
func Run(ctx context.Context, o Options, out, table io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	cases, err := o.cases()
	if err != nil {
		return err
	}
	recorded, err := readRatios(o.Hold)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	p := printer{out: out, table: table, json: o.JSON, markdown: o.Markdown}
	p.header(o)
	var errs []error
	var all []Result
	for round := range o.Rounds {
		var floor Result
		for _, c := range cases {
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
			fmt.Fprintf(log, "== %s, round %d\n", c, round+1)
			r, err := measure(ctx, o.of(&c), c, log)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c, err))
				continue
			}
			if c.Subject == "floor" {
				floor = r
			}
			r.Round = round + 1
			r.against(floor)
			p.row(r)
			all = append(all, r)
			errs = append(errs, r.verdict())
		}
	}
	var medians []Result
	if o.Rounds > 1 {
		medians = p.medians(cases, all)
	}
	return errors.Join(append(errs, holdTo(recorded, medians))...)
}

// Result is what a case came to.
type Result struct {
	Case
	Round     int     `json:"round"`
	Events    int     `json:"events"`
	Window    int     `json:"window"`
	Rate      float64 `json:"eventsPerSecond"`   // from the first to the last at the other end
	CPU       float64 `json:"cpuMicrosPerEvent"` // of the floor's or the service's process alone
	Memory    float64 `json:"peakMiB"`
	Receipted int     `json:"viaCloud"` // different events that the consumer has seen
	Local     int     `json:"local"`    // events in the windows that local work published
	Lost      int     `json:"lost"`
	Doubled   int     `json:"doubled"`
	Overtaken int     `json:"overtaken"` // events that came after a later one of their device; in a drain, of the fresh or of the backlog
	RateRatio float64 `json:"rateToFloor,omitempty"`
	CPURatio  float64 `json:"cpuToFloor,omitempty"`
	LoadAvg   float64 `json:"loadAverage"`
	Imbalance int64   `json:"balance"` // of the service's own account

	Writes  float64 `json:"diskWritesPerSecond"` // of the device that has the spool, by all processes; -1 where the kernel does not say
	Written float64 `json:"diskKiBPerSecond"`    // the same in KiB

	Wakeups float64 `json:"wakeupsPerSecond"`          // of the process's threads: voluntary context switches
	Load    float64 `json:"cpuPercent"`                // of one core, of the process, while it was measured
	Foreign float64 `json:"foreignCPUPercent"`         // of one core, by processes that are not of the bench; -1 where unknown
	P50     float64 `json:"p50Milliseconds,omitempty"` // from the moment at which an event was due to the consumer, at a rate
	P99     float64 `json:"p99Milliseconds,omitempty"`
}

// against holds the result against the floor on the same broker at the same QoS.
func (r *Result) against(floor Result) {
	if floor.Row == r.Row && floor.Broker == r.Broker && floor.QoS == r.QoS && floor.Rate > 0 && floor.CPU > 0 {
		r.RateRatio, r.CPURatio = r.Rate/floor.Rate, r.CPU/floor.CPU
	}
}

// verdict is an error unless every event arrived, once and in the order of its device.
func (r *Result) verdict() error {
	if r.Lost == 0 && r.Doubled == 0 && r.Overtaken == 0 && r.Imbalance == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d lost, %d doubled, %d overtaken, balance %d of %d events", r.Case, r.Lost, r.Doubled, r.Overtaken, r.Imbalance, r.Events)
}
