package main

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strings"

	edgex "github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/interfaces"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	gometrics "github.com/rcrowley/go-metrics"

	"app-offload/functions/status"
)

// kind is how a metric's value changes: a counter rises in whole numbers, a sum rises in fractions, a gauge moves both ways.
type kind int

const (
	counter kind = iota
	sum
	gauge
)

// emit receives one value of a metric, with the values of its labels.
type emit func(value float64, labels ...string)

// metric is one entry of the telemetry. Prometheus and EdgeX publish the same list, metrics().
type metric struct {
	name   string // after "app_offload_"
	kind   kind
	help   string
	labels []string
	read   func(*status.Status, emit)
}

// prometheusName returns the name by Prometheus' conventions.
func (m *metric) prometheusName() string { return "app_offload_" + m.name }

// edgexName returns the name by EdgeX's conventions: app_offload_tasks_accepted_total is OffloadTasksAccepted. No name is a prefix of another, since
// EdgeX matches metrics by prefix.
func (m *metric) edgexName() string {
	name := "Offload"
	for word := range strings.SplitSeq(strings.TrimSuffix(m.name, "_total"), "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// values reads the metric and skips unknown values: absent sensors are NaN.
func (m *metric) values(st *status.Status, take emit) {
	m.read(st, func(v float64, labels ...string) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			take(v, labels...)
		}
	})
}

// collector answers a scrape. It reads the status once, so that all numbers of a scrape are consistent and add up.
type collector struct {
	status func() status.Status
	list   []metric
	descs  []*prometheus.Desc
}

func newCollector(status func() status.Status) *collector {
	c := &collector{status: status, list: metrics()}
	for i := range c.list {
		m := &c.list[i]
		c.descs = append(c.descs, prometheus.NewDesc(m.prometheusName(), m.help, m.labels, nil))
	}
	return c
}

// Describe sends the descriptors of all metrics.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect sends the current values.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	st := c.status()
	for i := range c.list {
		m, valueType := &c.list[i], prometheus.CounterValue
		if m.kind == gauge {
			valueType = prometheus.GaugeValue
		}
		m.values(&st, func(v float64, labels ...string) {
			one, err := prometheus.NewConstMetric(c.descs[i], valueType, v, labels...)
			if err != nil {
				one = prometheus.NewInvalidMetric(c.descs[i], err)
			}
			to <- one
		})
	}
}

// metricsHandler serves the metrics in Prometheus' formats. A metric that cannot be written does not affect the others.
func metricsHandler(status func() status.Status) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(newCollector(status)); err != nil {
		return nil, fmt.Errorf("registering the metrics: %w", err)
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}), nil
}

// telemetry passes the same metrics to EdgeX's metrics manager, which publishes those enabled under Writable.Telemetry.Metrics on
// edgex/telemetry/app-offload/#. It belongs to one goroutine.
type telemetry struct {
	manager edgex.MetricsManager
	list    []metric
	items   map[string]*item
}

// item is one series in EdgeX's registry.
type item struct {
	whole    gometrics.Counter
	fraction gometrics.GaugeFloat64
	seen     bool // in the current update
}

func newTelemetry(manager edgex.MetricsManager) *telemetry {
	return &telemetry{manager: manager, list: metrics(), items: map[string]*item{}}
}

// pause unregisters every series until the next update: EdgeX logs an error at every interval for each series that it cannot publish.
func (t *telemetry) pause() {
	for name := range t.items {
		t.manager.Unregister(name)
	}
	clear(t.items)
}

// update sets every series, registers new ones, and unregisters those that are gone, such as the classes of an earlier configuration. It continues
// after a rejection by EdgeX and returns the first such error.
func (t *telemetry) update(st *status.Status) error {
	var problem error
	for i := range t.list {
		m := &t.list[i]
		m.values(st, func(v float64, labels ...string) {
			it, err := t.item(m, labels)
			if err != nil {
				problem = cmp.Or(problem, fmt.Errorf("registering the metric %s: %w", m.edgexName(), err))
				return
			}
			it.set(v)
		})
	}
	for name, it := range t.items {
		if !it.seen {
			t.manager.Unregister(name)
			delete(t.items, name)
		}
		it.seen = false
	}
	return problem
}

// item returns the series of a metric, and registers it at its first value. Series of one metric differ in name suffix and tags.
func (t *telemetry) item(m *metric, labels []string) (*item, error) {
	name := strings.Join(append([]string{m.edgexName()}, labels...), ".")
	if it, ok := t.items[name]; ok {
		it.seen = true
		return it, nil
	}
	tags := map[string]string{}
	for i, label := range m.labels {
		tags[label] = labels[i]
	}
	it, registered := &item{seen: true}, any(nil)
	if m.kind == counter {
		it.whole = gometrics.NewCounter()
		registered = it.whole
	} else {
		it.fraction = gometrics.NewGaugeFloat64()
		registered = it.fraction
	}
	if err := t.manager.Register(name, registered, tags); err != nil {
		return nil, err
	}
	t.items[name] = it
	return it, nil
}

func (it *item) set(v float64) {
	if it.whole != nil {
		it.whole.Inc(int64(v) - it.whole.Count())
		return
	}
	it.fraction.Update(v)
}
