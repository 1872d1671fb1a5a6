package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/secret"

	"app-offload/cmd/app-offload/internal/dashboard"
	"app-offload/functions"
	"app-offload/functions/config"
	"app-offload/functions/edgex"
)

// run is the process from start to end: configure, open, start, serve until the SDK is stopped, stop.
func run() int {
	if code, done := special(os.Args[1:], os.Stdout, os.Stderr); done {
		return code
	}
	a, code := start()
	if a == nil {
		return code
	}
	if err := a.serve(); err != nil {
		a.sdk.LoggingClient().Errorf("%s failed: %v", serviceKey, err)
		return 1
	}
	return 0
}

// app connects the service to the SDK.
type app struct {
	sdk     interfaces.ApplicationService
	custom  *customConfig
	service *functions.Service
	opened  chan struct{} // closed once service is set
	watcher *watcher
	bus     edgex.BusConfig
}

func newApp(sdk interfaces.ApplicationService) (*app, error) {
	a := &app{sdk: sdk, custom: newCustomConfig(), opened: make(chan struct{})}
	if err := a.load(); err != nil {
		return nil, err
	}
	var err error
	if a.bus, err = edgex.EffectiveBus(sdk); err != nil {
		return nil, err
	}
	bus := edgex.NewBus(a.bus, "results", sdk.SecretProvider())
	replaceTwice(sdk)
	a.service, err = functions.New(a.custom.Offload, functions.Deps{
		Name: a.bus.ServiceKey, Log: sdk.LoggingClient(), Secrets: sdk.SecretProvider(),
		Publisher: edgex.NewResults(bus, a.bus.ServiceKey), ClosePublisher: bus.Close, NoBus: a.bus.Disabled,
	})
	if err != nil {
		return nil, err
	}
	close(a.opened)
	for _, join := range []func() error{a.addTrigger, a.addPipeline, a.watchSecrets, a.show} {
		if err := join(); err != nil {
			return nil, errors.Join(err, a.service.Stop())
		}
	}
	return a, nil
}

// show adds the routes, and the watcher for page and telemetry.
func (a *app) show() error {
	page := dashboard.New(a.service)
	a.watcher = &watcher{service: a.service, page: page, log: a.sdk.LoggingClient()}
	if manager := a.sdk.MetricsManager(); manager != nil {
		a.watcher.telemetry = newTelemetry(manager)
	}
	metrics, err := metricsHandler(a.service.Status)
	if err != nil {
		return err
	}
	return addRoutes(a.sdk, &api{newGuard(a.bus, a.custom.Offload.Hosts(), secret.IsSecurityEnabled()), a.service, page, metrics})
}

// load reads the custom section. Without Consul it also applies the environment, which the SDK does not do for custom sections.
func (a *app) load() error {
	if usesProvider(os.Args[1:], os.LookupEnv) {
		a.custom.Offload.Writable.Classes = nil // the provider has all classes: default ones may have been deleted there
	}
	if err := a.sdk.LoadCustomConfig(a.custom, config.Section); err != nil {
		return fmt.Errorf("loading the section %s of the configuration: %w", config.Section, err)
	}
	if err := a.watchConfig(); err != nil { // before the section is read again, as the SDK discards the first update
		return err
	}
	if usesProvider(os.Args[1:], os.LookupEnv) && !overwrites(os.Args[1:]) {
		if err := a.checkStored(); err != nil {
			return fmt.Errorf("loading the section %s from the configuration provider: %w", config.Section, err)
		}
	}
	log := a.sdk.LoggingClient()
	for _, line := range config.Strays(&a.custom.Offload, os.Environ()) {
		log.Warnf("%s", line)
	}
	if usesProvider(os.Args[1:], os.LookupEnv) {
		for _, line := range config.Overruled(a.custom.Offload, os.LookupEnv) {
			log.Warnf("%s", line)
		}
		return nil
	}
	used, err := config.ApplyEnv(&a.custom.Offload, os.LookupEnv)
	for _, name := range used {
		log.Infof("environment variable applied: name=%s", name)
	}
	return err
}

// usesProvider reports whether the SDK keeps the configuration in Consul, by the SDK's own rules: the variable takes precedence over the flag, and
// "none" disables the provider.
func usesProvider(args []string, lookup func(string) (string, bool)) bool {
	if v, ok := lookup("EDGEX_CONFIG_PROVIDER"); ok {
		return v != "" && v != "none"
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && (name == "cp" || name == "configProvider") {
			return true
		}
	}
	return false
}

// overwrites reports whether the SDK replaces the provider's values by those of the file.
func overwrites(args []string) bool {
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if set, err := strconv.ParseBool(cmp.Or(value, "true")); strings.HasPrefix(arg, "-") && (name == "o" || name == "overwrite") && err == nil && set {
			return true
		}
	}
	return false
}

func (a *app) addTrigger() error {
	if strings.EqualFold(a.bus.TriggerType, edgex.TriggerType) {
		a.service.ExpectSource()
	}
	factory := func(interfaces.TriggerConfig) (interfaces.Trigger, error) {
		return edgex.NewTrigger(a.service, a.bus, a.sdk.SecretProvider(), a.sdk.LoggingClient())
	}
	if err := a.sdk.RegisterCustomTriggerFactory(edgex.TriggerType, factory); err != nil {
		return fmt.Errorf("registering the trigger %s: %w", edgex.TriggerType, err)
	}
	return nil
}

// addPipeline serves the SDK's own triggers. The trigger "offload" bypasses it.
func (a *app) addPipeline() error {
	return a.sdk.SetDefaultFunctionsPipeline(edgex.Adapter(a.service))
}

func (a *app) watchSecrets() error {
	for _, name := range []string{a.custom.Offload.KeySecret, a.custom.Offload.Export.SecretName} {
		if name == "" {
			continue
		}
		if err := a.sdk.SecretProvider().RegisterSecretUpdatedCallback(name, func(string) { a.service.SecretsChanged() }); err != nil {
			return fmt.Errorf("watching the secret %q: %w", name, err)
		}
	}
	return nil
}

// serve runs until the SDK ends or is stopped, and then stops the service, as the trigger "offload" also does. After that it waits only briefly for
// the SDK: all data is safe, and the SDK's MessageBus client waits forever for an absent broker.
func (a *app) serve() error {
	a.service.Start()
	defer a.watch()()
	ended := make(chan error, 1)
	go func() { ended <- a.sdk.Run() }()
	select {
	case err := <-ended:
		return errors.Join(err, a.service.Stop())
	case <-a.sdk.AppContext().Done():
	}
	err := a.service.Stop()
	select {
	case failed := <-ended:
		return errors.Join(err, failed)
	case <-time.After(farewell):
		a.sdk.LoggingClient().Warnf("the SDK did not end within %v after the service, probably because its MessageBus is unreachable", farewell)
		return err
	}
}

// watch starts the watcher and the thrift, and returns a function that stops them.
func (a *app) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.watcher.run(ctx) })
	running.Go(func() { newThrift().run(ctx, a.service) })
	return func() {
		cancel()
		running.Wait()
	}
}

// farewell is how long serve waits for the SDK to end after the service has stopped.
const farewell = 300 * time.Millisecond
