package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	edgex "github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/stretchr/testify/require"
)

// oddNames contain characters that break a topic, as EdgeX allows them in names under Service.EnableNameFieldEscape.
var oddNames = []string{"hall/cam 1#a", "hall/cam+2", "100%", "a%2Fb", "%", "a.b_c~d-e", "/", "#", "+", "厅", "events/device/app-offload/x"}

// With EnableNameFieldEscape device services escape the names in their topics. Classes see the original names, results are published under escaped
// topics with the usual number of levels, from which core-data reads the names back, and the service recognises them as its own.
func TestNamesThatBreakATopicAreEscaped(t *testing.T) {
	t.Parallel()
	e := newEdgeAtMosquitto(t, "SERVICE_ENABLENAMEFIELDESCAPE=true", "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge",
		"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHDEVICE=hall/cam[ +]*", "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHPROFILE=P hall/*")
	var mu sync.Mutex
	results := map[string][]byte{} // payload by topic
	token := e.client.Subscribe("edgex/events/device/#", 1, func(_ paho.Client, m paho.Message) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(m.Topic(), "edgex/events/device/app") {
			results[m.Topic()] = m.Payload()
		}
	})
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	e.start()
	for n, name := range oddNames {
		topic := edgex.NewPathBuilder().EnableNameFieldEscape(true).SetPath("edgex").SetPath(edgex.EventsPublishTopic).SetPath("device").
			SetNameFieldPath("device-odd").SetNameFieldPath("P " + name).SetNameFieldPath(name).SetNameFieldPath("S" + name).BuildPath()
		message := strings.NewReplacer(`"P"`, quote("P "+name), `"S"`, quote("S"+name), `"R"`, quote("R"+name)).Replace(string(of(n, name, "1.5")))
		require.True(t, json.Valid([]byte(message)))
		sent := e.client.Publish(topic, 1, false, enveloped([]byte(message)))
		require.True(t, sent.WaitTimeout(patience))
		require.NoError(t, sent.Error(), topic)
	}
	total := int64(len(oddNames))
	e.await("all is done here", func() bool { return e.counts().Local == total })
	var decisions struct {
		Decisions []struct{ Device, Class string }
	}
	e.get("/decisions?class=camera", &decisions)
	require.ElementsMatch(t, []struct{ Device, Class string }{{"hall/cam 1#a", "camera"}, {"hall/cam+2", "camera"}}, decisions.Decisions)
	type state struct {
		Counts counts
		Events struct{ Skipped map[string]int64 }
	}
	var before, after state
	e.get("/status", &before) // a window may have closed already
	e.stop()                  // publishes the open ones
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(results) }
	e.await("the results have come", func() bool { return count() >= len(oddNames) })
	e.start() // its session has brought it its own results meanwhile
	e.await("its own results are recognised", func() bool {
		e.get("/status", &after)
		return before.Events.Skipped["own"]+after.Events.Skipped["own"] == total
	})
	require.Equal(t, total, after.Counts.Accepted, "over both runs")
	e.stop()

	mu.Lock()
	defer mu.Unlock()
	var names []string
	for topic, raw := range results {
		levels := strings.Split(topic, "/")
		require.Len(t, levels, 7, topic)
		for i := range levels {
			var err error
			levels[i], err = url.PathUnescape(levels[i])
			require.NoError(t, err, topic)
		}
		var envelope struct{ Payload []byte }
		require.NoError(t, json.Unmarshal(raw, &envelope))
		var request requests.AddEventRequest
		require.NoError(t, json.Unmarshal(envelope.Payload, &request), "as core-data reads it: %s", envelope.Payload)
		ev := request.Event
		require.Equal(t, []string{"app-offload", ev.ProfileName, ev.DeviceName, ev.SourceName}, levels[3:])
		require.Equal(t, []string{"P " + ev.DeviceName, "R" + ev.DeviceName + "_summary"}, []string{ev.ProfileName, ev.SourceName})
		names = append(names, ev.DeviceName)
	}
	slices.Sort(names)
	want := slices.Clone(oddNames)
	slices.Sort(want)
	require.Equal(t, want, names)
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
