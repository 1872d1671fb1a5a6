package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/functions/fleet"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// Four nodes talk to a real broker with keys: the last one receives the sum of the others, and a node that uses another node's topic is refused by
// name. After a restart the contributions still exist, and an old statement is refused.
func TestFederateAnswersNodes(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	writeKey(t, dir, "k1", 1)
	ring := loadKeys(t, dir)
	sealer, err := seal.NewSealer(seal.DefaultConfig(), ring)
	require.NoError(t, err)
	opener := seal.NewOpener(ring, seal.Limits{})
	args := []string{"federate", "-from", "mqtt://" + address, "-keys", dir, "-every", "1s", "-state", filepath.Join(t.TempDir(), "fleet.json")}
	_, log, stop := program(t, args...)

	r := newRadio(t, address, opener)
	answers := make(chan *seal.Note, 100)
	wait(t, r.Subscribe("offload/v1/+/fleet", 1, func(_ mqtt.Client, m mqtt.Message) {
		note, err := opener.OpenNote(seal.Fleet, m.Payload())
		if err != nil {
			t.Errorf("an answer that cannot be opened: %v", err)
			return
		}
		answers <- note
	}))
	stamp := time.Now()
	say := func(topicOf, node, parts string) []byte {
		stamp = stamp.Add(time.Nanosecond)
		msg, err := sealer.SealNote(nil, &seal.Note{Kind: seal.Learned, ID: "1", Node: node, Created: stamp, Body: []byte(`{"layout":"1","parts":{` + parts + `}}`)})
		require.NoError(t, err)
		r.send(t, seal.LearnedTopic(topicOf), msg)
		return msg
	}
	told := func() (st struct {
		Nodes int
		Parts map[string]struct{ Matrix, Moments []float64 }
	},
	) {
		select {
		case n := <-answers:
			require.NoError(t, json.Unmarshal(n.Body, &st))
		case <-time.After(time.Minute):
			t.Fatal("there is no answer")
		}
		return st
	}
	var first []byte
	for _, node := range []string{"a", "b", "c"} {
		msg := say(node, node, `"cloud/x":{"matrix":[10],"moments":[5]}`)
		if told(); node == "a" {
			first = msg
		}
	}
	say("liar", "a", `"cloud/x":{"matrix":[10],"moments":[-5]}`)
	eventually(t, func() bool {
		say("d", "d", "")
		st := told()
		return st.Nodes == 3 && st.Parts["cloud/x"].Matrix[0] == 30 && st.Parts["cloud/x"].Moments[0] == 15
	}, "the sum of three: %v", log)
	require.Zero(t, stop(), log.String())
	require.Contains(t, log.String(), `node=liar reason="wrong node"`)

	_, log, stop = program(t, args...)
	r.send(t, seal.LearnedTopic("a"), first)
	told()
	say("d", "d", "")
	require.Equal(t, 3, told().Nodes)
	require.Zero(t, stop(), log.String())
	require.Contains(t, log.String(), "node=a reason=replayed")
}

func TestFederateRefusesWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-from", "nats://h:1"}, {"-from", "mqtt://h:1", "-share", "g"}, {"-from", "mqtt://h:1", "-epsilon", "1"}, {"-from", "mqtt://h:1", "-least", "1"}, {"-from", "mqtt://h:1", "x"},
	} {
		require.Equal(t, 1, run(t.Context(), append([]string{"federate"}, args...), streams{&buffer{}, &buffer{}}), args)
	}
	bad := filepath.Join(t.TempDir(), "fleet.json")
	require.NoError(t, os.WriteFile(bad, []byte("{}"), 0o600))
	old := filepath.Join(t.TempDir(), strings.Repeat("x", 255)) // there is no room for a file name beside it
	raw, err := fleet.New(fleet.DefaultTerms(), nil, nil).Save()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(old, raw, 0o600))
	for _, state := range []string{bad, filepath.Join(bad, "x"), filepath.Join(t.TempDir(), "none", "x"), old} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // if it is not refused, it waits for the broker
		defer cancel()
		log := &buffer{}
		require.Equal(t, 1, run(ctx, []string{"federate", "-from", "mqtt://127.0.0.1:1", "-state", state}, streams{log, log}))
		require.Contains(t, log.String(), state)
	}
}

// Messages beyond the queue are acknowledged, since unacknowledged messages block all later ones at a broker. The state is written only if it has changed.
func TestFederateHoldsNothingUp(t *testing.T) {
	state := filepath.Join(t.TempDir(), "fleet.json")
	n := &federation{fleet: fleet.New(fleet.DefaultTerms(), nil, nil), queue: make(chan *consume.Message, 1), state: state}
	acknowledged := 0
	for range 3 {
		require.True(t, n.deliver(&consume.Message{Ack: func() { acknowledged++ }}))
	}
	require.Equal(t, 2, acknowledged)
	require.NoError(t, n.save())
	require.NoFileExists(t, state)

	n.saved, n.state = 1, filepath.Join(t.TempDir(), "none", "fleet.json") // one statement less than the file has
	require.Error(t, n.save())
	require.NoError(t, os.Mkdir(filepath.Dir(n.state), 0o700))
	require.NoError(t, n.save(), "the next attempt")
	require.NoError(t, os.Remove(n.state))
	require.NoError(t, n.save())
	require.NoFileExists(t, n.state, "it has not changed since")
}

// A message that was too large to be read is refused as that, and the name of its node, which is as long as a topic may be, is cut in the log.
func TestFederateNamesLargeStatements(t *testing.T) {
	log := &bytes.Buffer{}
	n := &federation{fleet: fleet.New(fleet.DefaultTerms(), nil, nil), log: slog.New(slog.NewTextHandler(log, nil)), said: say.NewEvery(time.Minute)}
	n.answer(t.Context(), &consume.Message{Topic: seal.TopicRoot + strings.Repeat("n", 1<<16) + "/learned", Cut: 2_000_000})
	require.Equal(t, map[string]uint64{"too large": 1}, n.fleet.Counts().Refused)
	require.Contains(t, log.String(), `reason="too large" error="the message has 2000000 bytes, at most 1048576 are allowed"`)
	require.Less(t, log.Len(), 400)
}
