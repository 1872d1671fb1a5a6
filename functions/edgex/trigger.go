package edgex

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap"

	"app-offload/functions"
	"app-offload/functions/intake"
	"app-offload/functions/keys"
	"app-offload/functions/receive"
)

// TriggerType is the value of Trigger.Type that selects the service's own intake.
const TriggerType = "offload"

// Trigger is the service's own intake, run by the SDK. Because it belongs to the SDK's wait group, the SDK waits until the whole service has stopped
// in order before the process ends.
type Trigger struct {
	service *functions.Service
	source  receive.Source
	log     functions.Logger
}

var _ interfaces.Trigger = (*Trigger)(nil)

// NewTrigger returns the intake for the bus of EdgeX's configuration.
func NewTrigger(s *functions.Service, bus BusConfig, secrets keys.Secrets, log functions.Logger) (*Trigger, error) {
	if bus.Disabled {
		return nil, fmt.Errorf("Trigger.Type %s needs the MessageBus, which MessageBus.Disabled switches off; use Trigger.Type http", TriggerType) //nolint:staticcheck // begins with a key
	}
	if _, err := intake.Filters(bus.BaseTopicPrefix, bus.SubscribeTopics); err != nil {
		return nil, err
	}
	for _, remark := range intake.FilterRemarks(bus.BaseTopicPrefix, bus.SubscribeTopics) {
		log.Warnf("%s", remark)
	}
	t := &Trigger{service: s, log: log}
	if !strings.EqualFold(bus.Type, "mqtt") {
		t.source = newReader(s, NewBus(bus, "intake", secrets), bus.Topics(), log)
		return t, nil
	}
	var err error
	t.source, err = s.MQTTSource(intakeBus(bus, secrets))
	return t, err
}

// intakeBus returns the settings of an MQTT bus for the intake.
func intakeBus(bus BusConfig, secrets keys.Secrets) intake.Bus {
	return intake.Bus{
		URL: fmt.Sprintf("%s://%s:%d", bus.Protocol, bus.Host, bus.Port), Topics: bus.Topics(), ClientID: bus.ClientID() + "-intake",
		AuthMode: strings.ToLower(bus.AuthMode), SkipCertVerify: bus.Optional["SkipCertVerify"] == "true",
		Credentials: credentialsOf(bus, secrets),
	}
}

func credentialsOf(bus BusConfig, secrets keys.Secrets) func() (intake.Credentials, error) {
	return func() (intake.Credentials, error) {
		s, err := secrets.GetSecret(bus.SecretName)
		if err != nil {
			return intake.Credentials{}, fmt.Errorf("reading secret %q for the MessageBus: %w", bus.SecretName, err)
		}
		return intake.Credentials{
			Username: s["username"], Password: s["password"],
			ClientCert: []byte(s["clientcert"]), ClientKey: []byte(s["clientkey"]), CACert: []byte(s["cacert"]),
		}, nil
	}
}

// Initialize begins to read. When the SDK's context ends, the whole service stops, while the SDK waits.
func (t *Trigger) Initialize(wg *sync.WaitGroup, ctx context.Context, _ <-chan interfaces.BackgroundMessage) (bootstrap.Deferred, error) {
	t.service.StartSource(ctx, t.source)
	wg.Go(func() {
		<-ctx.Done()
		if err := t.service.Stop(); err != nil {
			t.log.Errorf("stopping: %v", err)
		}
	})
	return func() {}, nil
}
