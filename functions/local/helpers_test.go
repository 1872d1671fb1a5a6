package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/task"
)

var _ Classes = (*task.Classes)(nil)

// oneClass is a set of classes with a single class, for tests in which classes do not matter.
type oneClass struct{ *task.Class }

func (c oneClass) All() []*task.Class                          { return []*task.Class{c.Class} }
func (c oneClass) ForResource(*task.Event, string) *task.Class { return c.Class }

func class(operators string) oneClass {
	return oneClass{&task.Class{Name: "default", Operators: operators}}
}

// recorder is a bus that accepts everything, or fails as configured.
type recorder struct {
	mu      sync.Mutex
	results []Result
	failing bool
	why     error // of a failure, errBus if nil
	tries   int
}

var errBus = errors.New("bus gone")

func (r *recorder) Publish(result Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.failing {
		return cmp.Or(r.why, errBus)
	}
	r.results = append(r.results, result)
	return nil
}

func (r *recorder) fail(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = yes
}

func (r *recorder) all() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Result(nil), r.results...)
}

// value returns the text of one reading of a result, "" if it is missing.
func value(r Result, name string) string {
	for _, reading := range r.Event.Readings {
		if reading.ResourceName == name {
			return reading.Value
		}
	}
	return ""
}

func float(t require.TestingT, r Result, name string) float64 {
	v, err := strconv.ParseFloat(value(r, name), 64)
	require.NoError(t, err, "reading %s of %+v", name, r.Event)
	return v
}

// scalar returns a task with one Float64 reading.
func scalar(device, resource string, at time.Duration, v float64) *task.Task {
	return taskOf(device, at, task.Reading{Resource: resource, Type: task.Float64, Value: []byte(strconv.FormatFloat(v, 'g', -1, 64))})
}

// arrayTask returns a task with one Float64Array reading.
func arrayTask(device, resource string, at time.Duration, values ...float64) *task.Task {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return taskOf(device, at, task.Reading{Resource: resource, Type: task.Float64Array, Value: []byte("[" + strings.Join(words, ", ") + "]")})
}

// epoch is the first event time of tests: a multiple of every window used, and before the fake clock.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-24 * time.Hour).UnixNano()

func taskOf(device string, at time.Duration, readings ...task.Reading) *task.Task {
	t := &task.Task{
		EventID: fmt.Sprintf("event-%d", at), Device: device, Profile: "Sensor", Source: "All", Of: 1,
		Class: &task.Class{Name: "default"}, Origin: epoch + int64(at), Received: epoch + int64(at), Readings: readings,
	}
	for i := range readings {
		readings[i].Origin = t.Origin
	}
	return t
}

func start(t testing.TB, cfg Config, classes Classes, pub Publisher) *Processor {
	t.Helper()
	p, err := New(cfg, classes, pub, nil)
	require.NoError(t, err)
	return p
}

// feed processes tasks and waits for all of them; it returns their errors.
func feed(p *Processor, tasks ...*task.Task) []error {
	items, errs := make([]Item, len(tasks)), make([]error, len(tasks))
	var wg sync.WaitGroup
	wg.Add(len(tasks))
	for i, t := range tasks {
		items[i] = Item{Task: t, Cycles: 1.5}
	}
	p.Process(context.Background(), items, func(i int, err error) {
		errs[i] = err
		wg.Done()
	})
	wg.Wait()
	return errs
}

// still returns a worker without a goroutine: the test calls it.
func still(t require.TestingT, classes Classes, pub Publisher) *worker {
	cfg := DefaultConfig()
	cfg.Workers = 1
	r, err := compile(cfg, classes)
	require.NoError(t, err)
	p := &Processor{pub: pub, counts: newCounts(), clock: clock.System, abort: make(chan struct{})}
	p.rules.Store(r)
	return newWorker(p)
}

// accepted checks what core-data does with a result: it decodes, validates, and compares with the topic.
func accepted(t require.TestingT, r Result) {
	payload, _, err := r.Encode()
	require.NoError(t, err)
	var request requests.AddEventRequest
	require.NoError(t, request.UnmarshalJSON(payload), "%s", payload)
	levels := strings.Split("edgex/"+r.Topic("app-offload"), "/")
	require.Len(t, levels, 7)
	require.Equal(t, r.Event.ProfileName, levels[4])
	require.Equal(t, r.Event.DeviceName, levels[5])
	require.Equal(t, r.Event.SourceName, levels[6])
	require.NotZero(t, r.Event.Origin)
}
