package edgex

import (
	"errors"
	"testing"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake"
)

type vault map[string]map[string]string

func (v vault) GetSecret(name string, _ ...string) (map[string]string, error) {
	if s, ok := v[name]; ok {
		return s, nil
	}
	return nil, errors.New("no such secret")
}

// The secrets that the AuthMode needs come from the secret, under the names that EdgeX's client and ours read; with no AuthMode the secret is not
// read.
func TestSecretsOfTheBus(t *testing.T) {
	secret := map[string]string{"username": "u", "password": "p", "clientcert": "cc", "clientkey": "ck", "cacert": "ca", "other": "x"}
	bus := BusConfig{ServiceKey: "key", SecretName: "bus", Optional: map[string]string{"Qos": "1"}}
	for _, mode := range []string{"", "none", "NONE"} {
		bus.AuthMode = mode
		o, err := NewBus(bus, "results", vault{}).options()
		require.NoError(t, err, mode)
		require.Equal(t, map[string]string{"Qos": "1", "ClientId": "key-results"}, o)
	}
	bus.AuthMode = "UsernamePassword"
	bus.Optional["ClientId"] = "own"
	o, err := NewBus(bus, "results", vault{"bus": secret}).options()
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"Qos": "1", "ClientId": "own-results", "Username": "u", "Password": "p", "CertPEMBlock": "cc", "KeyPEMBlock": "ck", "CaPEMBlock": "ca",
	}, o)
	require.Len(t, bus.Optional, 2, "the configuration stays as it is")
	o, err = NewBus(bus, "results", vault{"bus": {"username": "u", "password": ""}}).options()
	require.NoError(t, err)
	require.NotContains(t, o, "Password")
	_, err = NewBus(bus, "results", vault{}).options()
	require.ErrorContains(t, err, `reading secret "bus" for AuthMode UsernamePassword: no such secret`)

	have, err := credentialsOf(bus, vault{"bus": secret})()
	require.NoError(t, err)
	require.Equal(t, intake.Credentials{Username: "u", Password: "p", ClientCert: []byte("cc"), ClientKey: []byte("ck"), CACert: []byte("ca")}, have)
	_, err = credentialsOf(bus, vault{})()
	require.ErrorContains(t, err, `reading secret "bus"`)
}

type (
	section struct {
		Disabled                                                                     bool
		Type, Protocol, Host, AuthMode, SecretName, BaseTopicPrefix, SubscribeTopics string
		Port                                                                         int
		Optional                                                                     map[string]string
	}
	configuration struct{ MessageBus, Trigger, Service section }
	sdk           struct {
		interfaces.ApplicationService
		config     *configuration
		serviceKey string
	}
)

// Each setting comes from its own field of the SDK's configuration, and a missing field is named.
func TestTheSettingsOfTheSDK(t *testing.T) {
	c := &configuration{
		MessageBus: section{true, " mqtt ", "tcp", "broker", "none", "secret", "base", "", 1883, map[string]string{"Qos": "1", "ClientId": "c"}},
		Trigger:    section{Type: "offload", SubscribeTopics: "events/#, core/#"}, Service: section{Host: "localhost", Port: 59700},
	}
	bus, err := EffectiveBus(&sdk{config: c, serviceKey: "app-offload"})
	require.NoError(t, err)
	require.Equal(t, BusConfig{
		Disabled: true, Type: "mqtt", Protocol: "tcp", Host: "broker", Port: 1883, AuthMode: "none", SecretName: "secret", BaseTopicPrefix: "base",
		Optional: map[string]string{"Qos": "1", "ClientId": "c"}, TriggerType: "offload", SubscribeTopics: "events/#, core/#",
		ServiceHost: "localhost", ServicePort: 59700, ServiceKey: "app-offload",
	}, bus)
	require.Equal(t, []string{"base/events/#", "base/core/#"}, bus.Topics())
	c.MessageBus.BaseTopicPrefix = ""
	bus, err = EffectiveBus(&sdk{config: c})
	require.NoError(t, err)
	require.Equal(t, "edgex", bus.BaseTopicPrefix)
	_, err = EffectiveBus(&struct {
		interfaces.ApplicationService
		config *configuration
	}{config: c})
	require.ErrorContains(t, err, `no text field "serviceKey"`)
	_, err = EffectiveBus(nil)
	require.Error(t, err)
}

// The intake connects with the bus's settings. It trusts any certificate only if the SDK's option says so.
func TestTheIntakeTakesTheSettingsOfTheBus(t *testing.T) {
	bus := BusConfig{
		Protocol: "ssl", Host: "broker", Port: 8883, AuthMode: "CACert", BaseTopicPrefix: "base", SubscribeTopics: "events/#", ServiceKey: "app",
		Optional: map[string]string{"ClientId": "c"},
	}
	for option, skips := range map[string]bool{"": false, "false": false, "true": true} {
		bus.Optional["SkipCertVerify"] = option
		have := intakeBus(bus, vault{})
		have.Credentials = nil
		require.Equal(t, intake.Bus{
			URL: "ssl://broker:8883", Topics: []string{"base/events/#"}, ClientID: bus.ClientID() + "-intake", AuthMode: "cacert", SkipCertVerify: skips,
		}, have)
	}
}

// A bus that the service cannot read from is rejected at the start.
func TestATriggerNeedsABus(t *testing.T) {
	_, err := NewTrigger(nil, BusConfig{Disabled: true}, nil, nil)
	require.ErrorContains(t, err, "MessageBus.Disabled")
	_, err = NewTrigger(nil, BusConfig{SubscribeTopics: "events/#/x"}, nil, nil)
	require.ErrorContains(t, err, "Trigger.SubscribeTopics")
	require.ErrorIs(t, NewBus(BusConfig{Disabled: true}, "results", nil).Publish("t", "", "", nil), ErrNoBus)
	closed := NewBus(BusConfig{}, "results", nil)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, closed.Publish("t", "", "", nil), ErrNoBus)
	require.ErrorContains(t, NewBus(BusConfig{Type: "mqtt", Host: "h", Port: 1, AuthMode: "cacert", SecretName: "s"}, "results", vault{}).Publish("t", "", "", nil),
		`connecting to the mqtt MessageBus at h:1: reading secret "s"`)
}
