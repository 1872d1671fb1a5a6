package edgetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// Model writes a model for the cloud into a folder of models: it answers 2·x + 1 for a number x, for tasks of the classes.
func Model(t testing.TB, dir, name string, v models.Version, classes ...string) {
	t.Helper()
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 1}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 1}})
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{x, w.Floats("w", []float32{2}, 1, 1), w.Floats("b", []float32{1}, 1)}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	m, err := models.Describe(name, file, 64<<20)
	require.NoError(t, err)
	m.Version, m.Variant, m.Classes = v, models.Cloud, classes
	text, err := json.Marshal(m)
	require.NoError(t, err)
	folder := filepath.Join(dir, m.Folder())
	require.NoError(t, os.MkdirAll(folder, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(folder, models.ManifestFile), text, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, m.File), file, 0o600))
}

// Measured returns a task whose event has one reading with a value.
func Measured(n uint64, node string, value float64) *task.Task {
	id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s/%d", node, n)).String()
	data := fmt.Appendf(nil, `{"apiVersion":"v3","id":"%s","deviceName":"device-%d","profileName":"pump","sourceName":"state","origin":%d,"readings":[{"id":"%s",`+
		`"origin":%d,"deviceName":"device-%d","profileName":"pump","resourceName":"speed","valueType":"Float64","value":"%v"}]}`, id, n%7, 1750000000000000000+n, id, 1750000000000000000+n, n%7, value)
	return &task.Task{
		EventID: id, Device: fmt.Sprintf("device-%d", n%7), Profile: "pump", Source: "state", CorrelationID: "c-" + id, Origin: int64(1750000000000000000 + n),
		Received: time.Now().UnixNano(), Of: 1, Class: &task.Class{Name: "default", Priority: 5}, Encoding: task.JSON, Data: data,
	}
}

// Asker is the result side of a node: it receives the results of the node's tasks and confirms them.
type Asker struct {
	Node   string
	Keys   seal.Keys
	Silent func() bool // whether to withhold the confirmation of a new result; nil confirms all

	mu      sync.Mutex
	opener  *seal.Opener
	sealer  *seal.Sealer
	byEvent map[string]map[string]int // count of each result, by event and result
	last    map[string]*seal.Result   // by event
}

// Run receives until ctx ends.
func (a *Asker) Run(ctx context.Context, t testing.TB, urls ...string) {
	t.Helper()
	var err error
	a.opener, a.byEvent, a.last = seal.NewOpener(a.Keys, seal.Limits{}), map[string]map[string]int{}, map[string]*seal.Result{}
	a.sealer, err = seal.NewSealer(seal.DefaultConfig(), a.Keys)
	require.NoError(t, err)
	o := mqtt.NewClientOptions().SetClientID("asker-" + a.Node).SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).
		SetMaxReconnectInterval(500 * time.Millisecond).SetKeepAlive(5 * time.Second).SetPingTimeout(2 * time.Second).SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe(seal.ResultTopic(a.Node), 1, func(c mqtt.Client, m mqtt.Message) { a.result(t, c, m) })
	})
	for _, url := range urls {
		o.AddBroker(url)
	}
	client := mqtt.NewClient(o)
	client.Connect()
	<-ctx.Done()
	client.Disconnect(50)
}

func (a *Asker) result(t testing.TB, c mqtt.Client, m mqtt.Message) {
	r, err := a.opener.OpenResult(m.Payload())
	if err != nil {
		t.Errorf("a result that cannot be opened: %v", err)
		return
	}
	a.mu.Lock()
	if a.byEvent[r.EventID] == nil {
		a.byEvent[r.EventID] = map[string]int{}
	}
	a.byEvent[r.EventID][r.ID]++
	first := a.byEvent[r.EventID][r.ID] == 1
	a.last[r.EventID] = r
	a.mu.Unlock()
	if first && a.Silent != nil && a.Silent() {
		return
	}
	msg, err := a.sealer.SealConfirmation(nil, &seal.Confirmation{ID: uuid.NewString(), Node: a.Node, Created: time.Now(), Results: []seal.ConfirmedResult{{ID: r.ID}}})
	if err != nil {
		t.Error(err)
		return
	}
	c.Publish(seal.ConfirmTopic(a.Node), 1, false, msg)
}

// Answers returns the results so far: the latest one of each event, and the number of different ones.
func (a *Asker) Answers() (last map[string]*seal.Result, different map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, different = map[string]*seal.Result{}, map[string]int{}
	for event, results := range a.byEvent {
		last[event], different[event] = a.last[event], len(results)
	}
	return last, different
}

// Value is the number in an answer.
func Value(t testing.TB, r *seal.Result) float64 {
	t.Helper()
	require.True(t, r.OK, r.Error)
	require.Equal(t, answer.ContentType, r.ContentType)
	a, err := answer.Decode(r.Payload)
	require.NoError(t, err)
	require.Len(t, a.Inference.Values, 1)
	return a.Inference.Values[0]
}
