package edgex

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"

	"app-offload/functions/intake"
)

// BusConfig is EdgeX's common configuration of the MessageBus, with environment and Consul already applied.
type BusConfig struct {
	Disabled                bool
	Type, Protocol, Host    string
	Port                    int
	AuthMode, SecretName    string
	BaseTopicPrefix         string
	Optional                map[string]string
	TriggerType             string
	SubscribeTopics         string // comma-separated, without the base prefix
	ServiceHost, ServiceKey string
	ServicePort             int
}

// EffectiveBus reads the MessageBus and Trigger sections that the SDK has put together. The SDK does not expose them, and its own client ends at
// SIGTERM, before the last results are out, so the service needs its own client with the same settings. The fields are read by reflection, which a
// test checks against the pinned SDK version; a missing field is an error that names it.
func EffectiveBus(service interfaces.ApplicationService) (bus BusConfig, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading the MessageBus settings out of %T: %v; this build wants app-functions-sdk-go v3.1.0", service, r)
		}
	}()
	svc := reflect.ValueOf(service).Elem()
	cfg := svc.FieldByName("config").Elem()
	mb, trigger, own := cfg.FieldByName("MessageBus"), cfg.FieldByName("Trigger"), cfg.FieldByName("Service")
	bus = BusConfig{
		Disabled:        mb.FieldByName("Disabled").Bool(),
		Type:            text(mb, "Type"),
		Protocol:        text(mb, "Protocol"),
		Host:            text(mb, "Host"),
		Port:            int(mb.FieldByName("Port").Int()),
		AuthMode:        text(mb, "AuthMode"),
		SecretName:      text(mb, "SecretName"),
		BaseTopicPrefix: text(mb, "BaseTopicPrefix"),
		Optional:        map[string]string{},
		TriggerType:     text(trigger, "Type"),
		SubscribeTopics: text(trigger, "SubscribeTopics"),
		ServiceHost:     text(own, "Host"),
		ServicePort:     int(own.FieldByName("Port").Int()),
		ServiceKey:      text(svc, "serviceKey"),
	}
	for it := mb.FieldByName("Optional").MapRange(); it.Next(); {
		bus.Optional[it.Key().String()] = it.Value().String()
	}
	if bus.BaseTopicPrefix == "" {
		bus.BaseTopicPrefix = "edgex"
	}
	return bus, nil
}

// text reads a string field and panics with its name if the field does not exist.
func text(v reflect.Value, field string) string {
	f := v.FieldByName(field)
	if f.Kind() != reflect.String {
		panic(fmt.Sprintf("no text field %q", field))
	}
	return strings.TrimSpace(f.String())
}

// Topics returns the filters to subscribe to, of which none covers another; it returns none if the list has mistakes.
func (b BusConfig) Topics() []string {
	topics, _ := intake.Filters(b.BaseTopicPrefix, b.SubscribeTopics)
	return topics
}

// ClientID returns the bus client's configured name, or the service's key.
func (b BusConfig) ClientID() string {
	if id := b.Optional["ClientId"]; id != "" {
		return id
	}
	return b.ServiceKey
}
