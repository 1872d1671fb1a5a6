// Package answers judges the models' answers on the bus: by the ground truth of the feed, and by the time from an event to its answer.
package answers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the memory.
const (
	maxEvents  = 200_000 // with a truth
	maxSamples = 50_000  // of the time of a kind of answer
)

// Sheet collects answers. It is safe for concurrent use.
type Sheet struct {
	deadlines map[string]time.Duration // by class; 0 means no deadline

	mu     sync.Mutex
	events map[string]event // by id
	order  []string
	rows   map[place]*row
	twice  int // number of final answers beyond the first of an event
}

type event struct {
	label string
	at    time.Time
	final bool // the final answer has arrived
}

// place is a kind of answer.
type place struct {
	model, by   string
	provisional bool
}

type row struct {
	count, right, judged, late int
	times                      []float64 // s
}

// New creates an empty sheet with the deadlines of classes.
func New(deadlines map[string]time.Duration) *Sheet {
	return &Sheet{deadlines: deadlines, events: map[string]event{}, rows: map[place]*row{}}
}

// Sent records an event with its truth, before it is published.
func (s *Sheet) Sent(id, label string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) >= maxEvents {
		delete(s.events, s.order[0])
		s.order = s.order[1:]
	}
	s.events[id] = event{label: label, at: at}
	s.order = append(s.order, id)
}

// Answer is a model's answer on the bus.
type Answer struct {
	About        string // id of the event
	By           string // local or cloud
	Model, Class string
	Provisional  bool
	Label        string // "" without a label
}

// Read decodes a message of the bus. It returns false for an event that is not a model's answer.
func Read(envelope []byte) (Answer, bool, error) {
	var e struct {
		Payload []byte `json:"payload"`
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		return Answer{}, false, fmt.Errorf("reading a message of the bus: %w", err)
	}
	var m struct {
		Event struct {
			SourceName string         `json:"sourceName"`
			Tags       map[string]any `json:"tags"`
			Readings   []struct {
				ResourceName string `json:"resourceName"`
				Value        string `json:"value"`
			} `json:"readings"`
		} `json:"event"`
	}
	if err := json.Unmarshal(e.Payload, &m); err != nil {
		return Answer{}, false, fmt.Errorf("reading an event of the bus: %w", err)
	}
	tag := func(name string) string {
		text, _ := m.Event.Tags[name].(string)
		return text
	}
	a := Answer{About: tag("originEventId"), By: tag("computedBy"), Model: tag("model"), Class: tag("class"), Provisional: tag("provisional") == "true"}
	for _, reading := range m.Event.Readings {
		if reading.ResourceName == m.Event.SourceName {
			a.Label = reading.Value
		}
	}
	return a, a.By != "", nil
}

// Seen records a message of the bus. It ignores messages that are not models' answers.
func (s *Sheet) Seen(envelope []byte, at time.Time) error {
	a, ok, err := Read(envelope)
	if !ok {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	about, known := s.events[a.About]
	if known && !a.Provisional {
		if about.final {
			s.twice++
			return nil
		}
		about.final = true
		s.events[a.About] = about
	}
	k := place{a.Model, a.By, a.Provisional}
	r := s.rows[k]
	if r == nil {
		r = &row{}
		s.rows[k] = r
	}
	r.count++
	if !known {
		return nil
	}
	took := at.Sub(about.at)
	if d := s.deadlines[a.Class]; d > 0 && took > d {
		r.late++
	}
	if len(r.times) < maxSamples {
		r.times = append(r.times, took.Seconds())
	}
	if a.Label != "" {
		r.judged++
		if a.Label == about.label {
			r.right++
		}
	}
	return nil
}

// Row summarizes one kind of answer.
type Row struct {
	Model, Place string
	Provisional  bool
	Count        int
	Accuracy     float64 // of answers with a truth, -1 without any
	P50, P99     float64 // s from the event to its answer, -1 if no event of this run was answered
	Late         int     // after the deadline of their class
}

// Rows returns all kinds, by model and place.
func (s *Sheet) Rows() []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Row
	for k, r := range s.rows {
		one := Row{Model: k.model, Place: k.by, Provisional: k.provisional, Count: r.count, Late: r.late, Accuracy: -1}
		if r.judged > 0 {
			one.Accuracy = float64(r.right) / float64(r.judged)
		}
		sorted := slices.Sorted(slices.Values(r.times))
		one.P50, one.P99 = quantile(sorted, 0.5), quantile(sorted, 0.99)
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Row) int { return strings.Compare(a.name(), b.name()) })
	return list
}

func (r *Row) name() string { return fmt.Sprint(r.Model, " ", r.Place, " ", r.Provisional) }

// Twice is the number of final answers for events that already had one.
func (s *Sheet) Twice() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.twice
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return -1
	}
	return sorted[int(q*float64(len(sorted)-1))]
}

// Line is a short text of the counts, "" without answers.
func (s *Sheet) Line() string {
	counts := map[string]int{}
	for _, r := range s.Rows() {
		counts[r.Place] += r.Count
		if r.Provisional {
			counts["provisional"] += r.Count
		}
	}
	if len(counts) == 0 {
		return ""
	}
	return fmt.Sprintf("  answers local %d (%d provisional) cloud %d", counts["local"], counts["provisional"], counts["cloud"])
}

// Table is all kinds as lines of text, "" without answers.
func (s *Sheet) Table() string {
	rows := s.Rows()
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %-6s %-12s %8s %9s %10s %10s %6s\n", "model", "place", "answer", "count", "accuracy", "p50", "p99", "late")
	for _, r := range rows {
		kind := "final"
		if r.Provisional {
			kind = "provisional"
		}
		fmt.Fprintf(&b, "%-12s %-6s %-12s %8d %9s %10s %10s %6d\n", r.Model, r.Place, kind, r.Count, shown(100*r.Accuracy, "%"), shown(1e3*r.P50, "ms"), shown(1e3*r.P99, "ms"), r.Late)
	}
	return b.String()
}

// shown formats a figure with its unit. A negative figure was not measured.
func shown(figure float64, unit string) string {
	if figure < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %s", figure, unit)
}
