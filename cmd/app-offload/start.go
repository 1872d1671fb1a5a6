package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	sdk "github.com/edgexfoundry/app-functions-sdk-go/v3/pkg"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/clients/logger"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/models"

	"app-offload/functions/halt"
)

// patienceAtStop is how long a stop during startup waits for parts that are being opened: as long as a stop may take.
const patienceAtStop = 8 * time.Second

// start creates the app, or returns nil and the exit code. The SDK waits for its dependencies in loops that no signal ends: a signal that arrives
// before the app exists ends the process here, after all open parts are closed. Afterwards the SDK handles the signals; a SIGHUP is forwarded as
// SIGTERM, which the SDK handles.
func start() (*app, int) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, halt.Signals()...)
	opening, made := make(chan struct{}), make(chan *app, 1)
	go func() { made <- open(opening) }()
	select {
	case a := <-made:
		go passOn(signals)
		if a == nil {
			return nil, 1
		}
		return a, 0
	case s := <-signals:
		return nil, stopEarly(s, opening, made)
	}
}

// passOn sends the process a SIGTERM for each SIGHUP, as long as it lives.
func passOn(signals <-chan os.Signal) {
	for s := range signals {
		if s == syscall.SIGHUP {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}
	}
}

// open creates the app, or logs the reason and returns nil. It closes opening once parts of the app may be open.
func open(opening chan<- struct{}) *app {
	// The raw target keeps the bytes of an event as received: decoding them into a DTO costs more than all other work on it.
	edgex, ok := sdk.NewAppServiceWithTargetType(serviceKey, &[]byte{})
	if !ok {
		unregister(os.Args[1:], os.LookupEnv)
		return nil // the SDK has logged the reason
	}
	close(opening)
	a, err := newApp(edgex)
	if err != nil {
		edgex.LoggingClient().Errorf("%s cannot start: %v", serviceKey, err)
		leave(edgex.RegistryClient())
		return nil
	}
	return a
}

// stopEarly ends a startup that a signal interrupts, and returns the exit code.
func stopEarly(s os.Signal, opening <-chan struct{}, made <-chan *app) int {
	log := logger.NewClient(serviceKey, models.InfoLog)
	log.Infof("stopping during startup: signal=%v", s)
	select {
	case <-opening:
	default: // the SDK still waits for its dependencies
		unregister(os.Args[1:], os.LookupEnv)
		return 0
	}
	var a *app
	select {
	case a = <-made:
	case <-time.After(patienceAtStop):
		log.Warnf("startup did not stop in time, exiting as after a crash; no data is lost: waited=%v", patienceAtStop)
	}
	if a == nil {
		return 1
	}
	err := a.service.Stop()
	leave(a.sdk.RegistryClient())
	if err != nil {
		log.Errorf("stopping during startup failed: error=%q", err)
		return 1
	}
	return 0
}

// leave removes the service from its registry, nil without one, where it would otherwise stay as critical.
func leave(registry interface{ Unregister() error }) {
	if registry != nil {
		_ = registry.Unregister()
	}
}

// unregister removes the service from Consul where the SDK registered it and then failed: the SDK returns no client for that. With the secure store
// Consul requires a token that only the SDK has; there the entry stays, as critical, until the next start.
func unregister(args []string, lookup func(string) (string, bool)) {
	at, key := registryOf(args, lookup)
	if at == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, at+"/v1/agent/service/deregister/"+url.PathEscape(key), nil)
	if err != nil {
		return
	}
	if answer, err := http.DefaultClient.Do(request); err == nil { // #nosec G704 -- the address of the configured Consul
		_ = answer.Body.Close()
	}
}

// registryOf returns the registry's address and the service's name in it. The address is "" if the service does not register or the registry needs a
// token.
func registryOf(args []string, lookup func(string) (string, bool)) (at, key string) {
	option := func(variable string, names ...string) string {
		if v, ok := lookup(variable); ok {
			return v
		}
		for _, arg := range args {
			name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			for _, n := range names {
				if strings.HasPrefix(arg, "-") && name == n {
					return strings.TrimSpace(value + " ")
				}
			}
		}
		return "none"
	}
	uses := option("EDGEX_USE_REGISTRY", "r", "registry")
	secure := option("EDGEX_SECURITY_SECRET_STORE")
	provider, err := url.Parse(strings.TrimPrefix(option("EDGEX_CONFIG_PROVIDER", "cp", "configProvider"), "consul."))
	if uses == "none" || uses == "false" || secure != "false" || err != nil || provider.Host == "" {
		return "", ""
	}
	if key = option("EDGEX_SERVICE_KEY", "sk", "serviceKey"); key == "none" || key == "" {
		key = serviceKey
	}
	return fmt.Sprintf("%s://%s", provider.Scheme, provider.Host), key
}
