package functions

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/status"
)

// shippedPolicy is the configuration of a user who sets nothing about policies.
func shippedPolicy(t *testing.T, b *broker) config.Config {
	t.Helper()
	c := testConfig(t, b, "")
	c.Writable.Policy = config.Default().Writable.Policy
	require.Equal(t, "defer", c.Writable.Policy.Default)
	return c
}

// learning is that configuration with the learning policy.
func learning(t *testing.T, b *broker) config.Config {
	c := shippedPolicy(t, b)
	c.Writable.Policy.Default = "bandit"
	return c
}

// A gateway without settings and without a cloud: tasks without deadlines are done, and the account balances.
func TestTheDefaultPolicyNeedsNoSetting(t *testing.T) {
	s := open(t, shippedPolicy(t, nil), &bin{})
	s.Start()
	for n := range 40 {
		takeIn(t, s, "d", n)
	}
	eventually(t, time.Minute, "all are done", func() bool { return s.Counts().Local == 40 })
	require.Zero(t, s.Counts().Balance)
	require.NoError(t, s.Stop())
}

// Learned state is saved without a setting, and a restart continues from it. Learning is not a change of the policy.
func TestWhatIsLearnedIsKeptWithoutASetting(t *testing.T) {
	cfg := learning(t, nil)
	s := open(t, cfg, &bin{})
	s.Start()
	before := s.Status().Policy
	for n := range 40 {
		takeIn(t, s, "d", n)
	}
	st := s.Status()
	require.Equal(t, before, st.Policy, "monitors take another text for another policy")
	require.EqualValues(t, 40, st.Counts.Accepted)
	require.Zero(t, st.Counts.Balance)
	require.Equal(t, status.TaughtCount{Local: 40}, taught(s))
	require.NoError(t, s.Stop())
	require.FileExists(t, filepath.Join(cfg.Spool.Directory, "learned.json"))

	again := open(t, cfg, &bin{})
	require.Equal(t, status.TaughtCount{Local: 40}, taught(again))
	require.Zero(t, again.Counts().Balance)
}

// Without any consumer, the broker's acknowledgements are the outcomes, if the user has configured them to count.
func TestABanditLearnsFromAcknowledgements(t *testing.T) {
	cfg := learning(t, startBroker(t))
	cfg.Export.Confirm = "puback"
	class := cfg.Writable.Classes["default"]
	class.Policy = "cloud"
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	s.Start()
	eventually(t, time.Minute, "the link is up", func() bool { return s.host.State().Link.Up })
	submit(t, s, 0, 50)
	eventually(t, time.Minute, "they have taught", func() bool { return taught(s) == status.TaughtCount{Cloud: 50} })
}

// A silent consumer teaches nothing and does no harm: cheap tasks are done locally as before.
func TestTheDefaultPolicyBehindASilentCloud(t *testing.T) {
	b := startBroker(t)
	startCloud(t, b, "n1", nil).silent = true
	cfg := shippedPolicy(t, b)
	cfg.StopGrace = "1s"
	s := open(t, cfg, &bin{})
	s.Start()
	eventually(t, time.Minute, "the link is up", func() bool { return s.host.State().Link.Up })
	submit(t, s, 0, 500)
	c := s.Counts()
	require.EqualValues(t, 500, c.Accepted)
	require.Zero(t, c.Balance)
	require.Greater(t, c.Local, int64(450), "a float is not worth a message")
}
