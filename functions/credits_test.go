package functions

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/seal"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// Prices received over the link keep a task local that was sent before, and send none that must not leave. A statement for another node, an older
// one, or an invalid price changes nothing; if disabled, prices no longer count.
func TestPublishedPricesChangeDecisions(t *testing.T) {
	b := startBroker(t)
	c := testConfig(t, b, "cost")
	c.Writable.Score.Credits = true
	secret := task.DefaultClassConfig()
	secret.NeverLeave, secret.MatchDevice = true, "secret"
	c.Writable.Classes["secret"] = secret
	s := linkedTo(t, c, &bin{})
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	at, head := time.Unix(1000, 0), "1:ab"
	publish := func(node string, prices string, at time.Time) {
		msg, err := sealer.SealNote(nil, &seal.Note{Kind: seal.Credit, ID: "1", Node: node, Created: at, Body: json.RawMessage(`{"balance":"1.5","head":"` + head + `","prices":` + prices + `}`)})
		require.NoError(t, err)
		require.NoError(t, b.Publish(seal.CreditTopic("n1"), msg, false, 1))
	}
	target := func(class string) decision.Target {
		r := s.rules.Load()
		one := decide.Case{Task: taskOf(t, s, event("d", 1))}
		one.Task.Class, one.Task.Deadline = r.Class(class), time.Second
		r.Decide(&one, &host.State{Time: 1, Cores: 1, QueueCycles: 6000, Link: host.Link{Up: true, Goodput: 1e7, RTT: 0.01}})
		return one.Decision.Target
	}
	require.Equal(t, decision.Cloud, target("default"), "without a price")
	publish("n1", `{"default":{"earn":50}}`, at)
	eventually(t, time.Minute, "the price counts", func() bool { return target("default") == decision.Local })
	require.Equal(t, "1.5", s.Status().Policies.Credits.Balance)
	refused := func() uint64 { return s.Status().Policies.Credits.Refused }
	publish("n1", `{}`, at)                                     // not newer
	publish("n2", `{}`, at.Add(time.Hour))                      // of another node
	publish("n1", `{"default":{"earn":-1}}`, at.Add(time.Hour)) // no price
	eventually(t, time.Minute, "three are refused", func() bool { return refused() == 3 })
	require.Equal(t, decision.Local, target("default"))
	publish("n1", `{"secret":{}}`, at.Add(time.Hour))
	eventually(t, time.Minute, "the price is gone", func() bool { return target("default") == decision.Cloud })
	require.Equal(t, decision.Local, target("secret"))
	publish("n1", `{"default":{"earn":50}}`, at.Add(2*time.Hour))
	eventually(t, time.Minute, "the price counts again", func() bool { return target("default") == decision.Local })
	head = "2:cd" // the cloud's clock was set back; it settles on
	publish("n1", `{}`, at)
	eventually(t, time.Minute, "a later settlement counts", func() bool { return target("default") == decision.Cloud })
	publish("n1", `{"default":{"earn":50}}`, at.Add(time.Second))
	eventually(t, time.Minute, "and so do its prices", func() bool { return target("default") == decision.Local })
	w := s.Config().Writable
	w.Score.Credits = false
	require.NoError(t, s.Reload(w))
	require.Equal(t, decision.Cloud, target("default"))
	require.Nil(t, s.Status().Policies.Credits)
}

// Refused statements show in the status also where none was accepted yet; without credits nothing does.
func TestTheStatusOfCredits(t *testing.T) {
	require.Nil(t, new(teller).status(true))
	require.Equal(t, &status.CreditStatus{Refused: 1}, (&teller{refused: 1}).status(true))
	require.Nil(t, (&teller{refused: 1, at: time.Now()}).status(false))
	require.NotNil(t, (&teller{at: time.Now()}).status(true))
}
