package main

import (
	"reflect"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/container"
	edgex "github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/interfaces"
	"github.com/edgexfoundry/go-mod-bootstrap/v3/di"
)

// twice replaces metrics that the SDK registers a second time. For a custom trigger the SDK creates two message processors: one before it looks at
// the trigger's type, which it discards, and one for the trigger. Both register these counters, and EdgeX rejects the second registration, whose
// counters are the live ones, with a warning at each start.
type twice struct{ edgex.MetricsManager }

func (m twice) Register(name string, item any, tags map[string]string) error {
	if name == "MessagesReceived" || name == "InvalidMessagesReceived" {
		m.Unregister(name)
	}
	return m.MetricsManager.Register(name, item, tags)
}

// replaceTwice puts twice in the place of the SDK's manager. The SDK's container is reachable only as a field of the context it builds, whose type is
// unexported. Without the field the warnings stay, and nothing else changes.
func replaceTwice(service interfaces.ApplicationService) {
	manager := service.MetricsManager()
	built := reflect.Indirect(reflect.ValueOf(service.BuildContext("", "")))
	if manager == nil || built.Kind() != reflect.Struct {
		return
	}
	field := built.FieldByName("Dic")
	if !field.IsValid() || !field.CanInterface() {
		return
	}
	if dic, ok := field.Interface().(*di.Container); ok && dic != nil {
		dic.Update(di.ServiceConstructorMap{container.MetricsManagerInterfaceName: func(di.Get) any { return twice{manager} }})
	}
}
