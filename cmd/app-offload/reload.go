package main

import "app-offload/functions/config"

// customConfig is the section that the SDK loads beside its own configuration: Offload.
type customConfig struct {
	Offload config.Config
}

// newCustomConfig starts from the defaults, which stay where a key is missing.
func newCustomConfig() *customConfig { return &customConfig{Offload: config.Default()} }

// UpdateFromRaw takes the configuration that the SDK decoded.
func (c *customConfig) UpdateFromRaw(raw any) bool {
	next, ok := raw.(*customConfig)
	if ok {
		*c = *next
	}
	return ok
}

// storedConfig is the section as texts, as the provider has it.
type storedConfig struct {
	Offload map[string]any
}

// UpdateFromRaw takes what the SDK read.
func (c *storedConfig) UpdateFromRaw(raw any) bool {
	next, ok := raw.(*storedConfig)
	if ok {
		*c = *next
	}
	return ok
}

// checkStored rejects what a live change would: the SDK reads an emptied NeverLeave as false, and the class's data would leave.
func (a *app) checkStored() error {
	stored := &storedConfig{}
	if err := a.sdk.LoadCustomConfig(stored, config.Section); err != nil {
		return err
	}
	if err := config.CheckTree(stored.Offload); err != nil {
		return err
	}
	return a.sdk.LoadCustomConfig(a.custom, config.Section) // or the SDK would show the texts
}

// watchConfig subscribes to changes in Consul below Offload/Writable, unless a signal has ended the SDK already: its watcher would then close the
// channel to which Consul's client is about to send, and that panics.
func (a *app) watchConfig() error {
	if a.sdk.AppContext().Err() != nil {
		return nil
	}
	watched := map[string]any{} // as strings: after a value that it cannot parse, the SDK would withhold every later change and only log it
	return a.sdk.ListenForCustomConfigChanges(&watched, config.Section+"/Writable", a.changed)
}

// changed applies a change as a whole, or keeps the previous configuration and logs why. During the start it waits for the service.
func (a *app) changed(raw any) {
	select {
	case <-a.opened:
	case <-a.sdk.AppContext().Done():
		return
	}
	log := a.sdk.LoggingClient()
	tree, ok := raw.(*map[string]any)
	if !ok {
		log.Errorf("ignoring a configuration change of an unexpected type: type=%T", raw)
		return
	}
	w, err := config.FromTree(a.custom.Offload.Writable, *tree)
	if err != nil {
		log.Errorf("%v", a.service.RefuseConfiguration(err))
		return
	}
	if err := a.service.Reload(w); err != nil {
		log.Errorf("%v", err)
		return
	}
	log.Infof("configuration changed: version=%s", a.service.Status().Configuration.Version)
}
