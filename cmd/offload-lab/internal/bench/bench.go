// Package bench measures the whole service as a user runs it, against the minimal work of any subscriber.
//
// A case starts a broker, the measured subject, a consumer and a load, each in its own process, except the consumer, which is the bench itself. The
// bench checks for every published event at the consumer: a case with a lost or duplicated event is an error, regardless of its speed. Figures of
// different cases are comparable within one run.
package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-offload/functions/policy"
)

// Options select the measurements.
type Options struct {
	Bin, Res  string        // folders with the binaries and with configuration.yaml
	Dir       string        // folder for spools and the log
	Mosquitto string        // path of the program
	EKuiper   string        // folder of eKuiper, to measure it as well; "" means no
	Brokers   string        // both, all, or a list
	Policies  string        // comma-separated
	Confirm   string        // comma-separated: puback, receipt
	QoS       string        // comma-separated: 0, 1
	Form      string        // of the service's messages: json or protobuf
	Env       []string      // further settings of the service
	Events    int           // per case
	Window    int           // maximum number of events in flight from end to end
	Rate      int           // events per second, 0 means the maximum
	Rounds    int           // how often all cases are measured in turn
	Idle      time.Duration // duration of a measurement without events; 0 measures a load
	Drain     bool          // measure how fast the service sends its events once all of them are in its spool
	JSON      bool          // print JSON objects, and the table to the standard error
	Markdown  bool          // print the table in Markdown
	Rows      string        // variations to measure in turn: all, or some of rowNames; "" means the plain options
	Hold      string        // file with the ratios that must not be exceeded; see hold

	readings, size, quota, procs int // set by a variation
}

// DefaultOptions returns the options of `make bench`.
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
	Subject string `json:"subject"` // floor, ekuiper or service
	Policy  string `json:"policy,omitempty"`
	Confirm string `json:"confirm,omitempty"`
	QoS     int    `json:"qos"` // of the load's messages
}

func (c Case) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s QoS %d", c.Row, c.Broker, c.Subject, c.Policy, c.Confirm, c.QoS))
}

// edgePolicy processes everything locally, so that the confirmation of the cloud does not matter.
const edgePolicy = "edge"

// cases lists the cases of the options, each floor before the cases compared with it.
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

// brokersOf resolves a list of brokers.
func brokersOf(list string) ([]string, error) {
	switch list {
	case "both":
		return []string{Mosquitto, Embedded}, nil
	case "all":
		return Brokers(), nil
	}
	var kinds []string
	for kind := range strings.SplitSeq(list, ",") {
		if _, known := mosquittoSettings[kind]; !known {
			return nil, fmt.Errorf("-broker %q: must be both, all, or some of %s", list, strings.Join(Brokers(), ","))
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// casesOf lists the cases of a row.
func (o Options) casesOf(v variation, kinds []string) (all []Case) {
	for _, kind := range kinds {
		for q := range strings.SplitSeq(o.QoS, ",") {
			qos := int(q[0] - '0') // validated
			all = append(all, Case{Row: v.name, Broker: kind, Subject: "floor", QoS: qos})
			if o.EKuiper != "" && v.policy == "" && !o.Drain {
				all = append(all, Case{Row: v.name, Broker: kind, Subject: peer, QoS: qos})
			}
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
		errs = append(errs, errors.New("-drain: cannot be combined with -idle or -rate"))
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

// Run measures all cases and prints each result immediately. It continues after a failed case, and returns all failures together.
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

// of returns the options of a case.
func (o Options) of(c *Case) Options {
	for _, v := range variations {
		if v.name == c.Row {
			o.readings, o.size, o.quota, o.procs = v.readings, v.size, v.quota, v.procs
			o.Rate = cmp.Or(v.rate, o.Rate)
			if v.rate > 0 {
				o.Events = min(o.Events, mostSeconds*v.rate)
			}
		}
	}
	return o
}

// Result is the result of a case.
type Result struct {
	Case
	Round     int     `json:"round"`
	Events    int     `json:"events"`
	Window    int     `json:"window"`
	Rate      float64 `json:"eventsPerSecond"`   // from the first to the last event at the consumer
	CPU       float64 `json:"cpuMicrosPerEvent"` // of the process of the floor or the service only
	Memory    float64 `json:"peakMiB"`
	Receipted int     `json:"viaCloud"` // distinct events received by the consumer
	Local     int     `json:"local"`    // events in the windows published by local work
	Lost      int     `json:"lost"`
	Doubled   int     `json:"doubled"`
	Overtaken int     `json:"overtaken"` // events after a later event of their device; in a drain, separately for fresh and backlog
	RateRatio float64 `json:"rateToFloor,omitempty"`
	CPURatio  float64 `json:"cpuToFloor,omitempty"`
	LoadAvg   float64 `json:"loadAverage"`
	Imbalance int64   `json:"balance"` // of the service's own account

	Writes  float64 `json:"diskWritesPerSecond"` // of the spool's device, by all processes; -1 if unknown
	Written float64 `json:"diskKiBPerSecond"`    // the same in KiB

	Wakeups float64 `json:"wakeupsPerSecond"`          // voluntary context switches of the process's threads
	Load    float64 `json:"cpuPercent"`                // of one core, by the process during the measurement
	Foreign float64 `json:"foreignCPUPercent"`         // of one core, by processes outside the bench; -1 if unknown
	P50     float64 `json:"p50Milliseconds,omitempty"` // from the due time of an event to the consumer, at a fixed rate
	P99     float64 `json:"p99Milliseconds,omitempty"`
}

// against computes the ratios to the floor on the same broker at the same QoS.
func (r *Result) against(floor Result) {
	if floor.Row == r.Row && floor.Broker == r.Broker && floor.QoS == r.QoS && floor.Rate > 0 && floor.CPU > 0 {
		r.RateRatio, r.CPURatio = r.Rate/floor.Rate, r.CPU/floor.CPU
	}
}

// verdict returns an error unless every event arrived once and in the order of its device. Losses of a peer are no error.
func (r *Result) verdict() error {
	if r.Subject == peer || r.Lost == 0 && r.Doubled == 0 && r.Overtaken == 0 && r.Imbalance == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d lost, %d doubled, %d overtaken, balance %d of %d events", r.Case, r.Lost, r.Doubled, r.Overtaken, r.Imbalance, r.Events)
}

// printer writes results in the selected formats.
type printer struct {
	out, table     io.Writer
	json, markdown bool
}

// column is a column of the table.
type column struct {
	name  string
	width int // negative for left-aligned text
	of    func(*Result) string
}

func number(format string, of func(*Result) float64) func(*Result) string {
	return func(r *Result) string { return fmt.Sprintf(format, of(r)) }
}

var columns = []column{
	{"row", -10, func(r *Result) string { return r.Row }},
	{"broker", -15, func(r *Result) string { return r.Broker }},
	{"subject", -8, func(r *Result) string { return r.Subject }},
	{"policy", -9, func(r *Result) string { return r.Policy }},
	{"confirm", -8, func(r *Result) string { return r.Confirm }},
	{"QoS", 3, func(r *Result) string { return fmt.Sprint(r.QoS) }},
	{"events/s", 9, number("%.0f", func(r *Result) float64 { return r.Rate })},
	{"CPU µs", 7, number("%.1f", func(r *Result) float64 { return r.CPU })},
	{"MiB", 5, number("%.0f", func(r *Result) float64 { return r.Memory })},
	{"rate/fl.", 8, number("%.2f", func(r *Result) float64 { return r.RateRatio })},
	{"CPU/fl.", 7, number("%.2f", func(r *Result) float64 { return r.CPURatio })},
	{"lost", 4, func(r *Result) string { return fmt.Sprint(r.Lost) }},
	{"doubled", 7, func(r *Result) string { return fmt.Sprint(r.Doubled) }},
	{"overtaken", 9, func(r *Result) string { return fmt.Sprint(r.Overtaken) }},
	{"p50 ms", 7, number("%.1f", func(r *Result) float64 { return r.P50 })},
	{"p99 ms", 7, number("%.1f", func(r *Result) float64 { return r.P99 })},
	{"writes/s", 8, number("%.0f", func(r *Result) float64 { return r.Writes })},
	{"KiB/s", 7, number("%.0f", func(r *Result) float64 { return r.Written })},
	{"wakes/s", 7, number("%.0f", func(r *Result) float64 { return r.Wakeups })},
	{"CPU %", 6, number("%.1f", func(r *Result) float64 { return r.Load })},
	{"foreign %", 9, number("%.0f", func(r *Result) float64 { return r.Foreign })},
}

func (p printer) header(o Options) {
	fmt.Fprintf(p.table, "%d events per case; at most %d in flight end to end; batches of %d, form %s\n\n",
		o.Events, o.Window, batchSize, o.Form)
	p.heads()
}

func (p printer) heads() {
	p.line(func(c *column) string { return c.name })
	if p.markdown {
		fmt.Fprintln(p.table, "|"+strings.Repeat("---|", len(columns)))
	}
}

// line writes a line of the table.
func (p printer) line(of func(*column) string) {
	cells := make([]string, len(columns))
	for i := range columns {
		cells[i] = of(&columns[i])
		if !p.markdown {
			cells[i] = fmt.Sprintf("%*s", columns[i].width, cells[i])
		}
	}
	if p.markdown {
		fmt.Fprintln(p.table, "| "+strings.Join(cells, " | ")+" |")
		return
	}
	fmt.Fprintln(p.table, strings.TrimRight(strings.Join(cells, " "), " "))
}

func (p printer) row(r Result) {
	p.line(func(c *column) string { return c.of(&r) })
	if p.json {
		_ = json.NewEncoder(p.out).Encode(r)
	}
}

// medians writes a row for each case with the median of each figure, and the sum of the figures that must be zero. The ratios are medians of the
// ratios within a round, which other work on the machine disturbs least.
func (p printer) medians(cases []Case, all []Result) (medians []Result) {
	fmt.Fprintf(p.table, "\nMedians, and sums of lost, doubled and overtaken events:\n\n")
	p.heads()
	for _, c := range cases {
		of := slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return r.Case != c })
		if len(of) > 0 {
			r := median(of)
			medians = append(medians, r)
			p.line(func(c *column) string { return c.of(&r) })
		}
	}
	return medians
}

func median(of []Result) Result {
	m := Result{Case: of[0].Case}
	for _, figure := range []func(*Result) *float64{
		func(r *Result) *float64 { return &r.Rate }, func(r *Result) *float64 { return &r.CPU }, func(r *Result) *float64 { return &r.Memory },
		func(r *Result) *float64 { return &r.RateRatio }, func(r *Result) *float64 { return &r.CPURatio },
		func(r *Result) *float64 { return &r.P50 }, func(r *Result) *float64 { return &r.P99 },
		func(r *Result) *float64 { return &r.Writes }, func(r *Result) *float64 { return &r.Written },
		func(r *Result) *float64 { return &r.Wakeups }, func(r *Result) *float64 { return &r.Load }, func(r *Result) *float64 { return &r.Foreign },
	} {
		slices.SortFunc(of, func(a, b Result) int { return cmp.Compare(*figure(&a), *figure(&b)) })
		*figure(&m) = (*figure(&of[(len(of)-1)/2]) + *figure(&of[len(of)/2])) / 2
	}
	for i := range of {
		m.Lost, m.Doubled, m.Overtaken = m.Lost+of[i].Lost, m.Doubled+of[i].Doubled, m.Overtaken+of[i].Overtaken
	}
	return m
}

// slack is the factor by which a ratio to the floor may exceed the recorded one.
const slack = 1.15

// readRatios reads the recorded ratios of the service's CPU to the floor's: one line per row, with its name and the ratio. Lines that begin with #
// are comments. An empty path returns no ratios.
func readRatios(path string) (map[string]float64, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path) // #nosec G304 -- the user's own file
	if err != nil {
		return nil, fmt.Errorf("-hold: %w", err)
	}
	defer f.Close()
	ratios := map[string]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		var row string
		var ratio float64
		if _, err := fmt.Sscanf(line, "%s %g", &row, &ratio); err != nil || !(ratio > 0) {
			return nil, fmt.Errorf("-hold %s: %q must be a row's name and a ratio", path, line)
		}
		ratios[row] = ratio
	}
	return ratios, nil
}

// holdTo returns an error for each median ratio above the recorded one times slack, and for each row that was not measured.
func holdTo(recorded map[string]float64, medians []Result) error {
	var errs []error
	for row, most := range recorded {
		measured := false
		for i := range medians {
			r := &medians[i]
			if r.Row != row || r.CPURatio == 0 || r.Subject != "service" {
				continue
			}
			measured = true
			if r.CPURatio > slack*most {
				errs = append(errs, fmt.Errorf("%s: CPU relative to the floor %.2f exceeds the recorded %.2f by more than %.0f %%; foreign CPU %.0f %% of a core",
					row, r.CPURatio, most, 100*(slack-1), r.Foreign))
			}
		}
		if !measured {
			errs = append(errs, fmt.Errorf("%s: the recorded ratio cannot be checked: the row needs more than one round", row))
		}
	}
	return errors.Join(errs...)
}
