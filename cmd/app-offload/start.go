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
)

// patienceAtStop is how long a stop during the start waits for what is being opened: as long as a stop may take.
const patienceAtStop = 8 * time.Second

// start makes the app, or is nil with the code to exit with. The SDK waits for its surroundings in loops that no signal ends: a signal
// that arrives before the app is made ends the process here, after what is open has been closed. Afterwards the SDK takes the signals, and
// a SIGHUP becomes a SIGTERM, which it knows.
func start() (*app, int) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, stopSignals()...)
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

// stopSignals are those that stop the service in order. A SIGHUP that is ignored, as under nohup, stays so.
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// passOn makes a SIGTERM of each SIGHUP, as long as the process lives.
func passOn(signals <-chan os.Signal) {
	for s := range signals {
		if s == syscall.SIGHUP {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}
	}
}

// open makes the app, or is nil after the log has had the reason. It closes opening once something of ours may be open.
func open(opening chan<- struct{}) *app {
	// The raw target keeps the bytes of an event as they came: decoding it into a DTO costs more than all the rest.
	edgex, ok := sdk.NewAppServiceWithTargetType(serviceKey, &[]byte{})
	if !ok {
		unregister(os.Args[1:], os.LookupEnv)
		return nil // the SDK has said why
	}
	close(opening)
	a, err := newApp(edgex)
	if err != nil {
		edgex.LoggingClient().Errorf("%s cannot start: %v", serviceKey, err)
		if registry := edgex.RegistryClient(); registry != nil {
			_ = registry.Unregister() // or it would stay there as critical
		}
		return nil
	}
	return a
}

// stopEarly ends a start that a signal came into, and returns the exit code.
func stopEarly(s os.Signal, opening <-chan struct{}, made <-chan *app) int {
	log := logger.NewClient(serviceKey, models.InfoLog)
	log.Infof("stopping during startup: signal=%v", s)
	select {
	case <-opening:
	default: // the SDK is still waiting for its surroundings
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
	if registry := a.sdk.RegistryClient(); registry != nil {
		_ = registry.Unregister()
	}
	if err != nil {
		log.Errorf("stopping during startup failed: error=%q", err)
		return 1
	}
	return 0
}

// unregister takes the service out of Consul where the SDK has registered it and then given up: it hands out no client for that. With
// the secure store Consul asks for a token, which only the SDK has; there the entry stays, as critical, until the next start.
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

// registryOf is the address of the registry, "" where the service does not register or the registry needs a token, and the name there.
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
