package main

import "app-offload/functions/config"

// customConfig is what the SDK loads beside its own configuration: the section Offload.
type customConfig struct {
	Offload config.Config
}

// newCustomConfig begins with the defaults, which stay where a key is missing.
func newCustomConfig() *customConfig { return &customConfig{Offload: config.Default()} }

// UpdateFromRaw takes over what the SDK decoded.
func (c *customConfig) UpdateFromRaw(raw any) bool {
	next, ok := raw.(*customConfig)
	if ok {
		*c = *next
	}
	return ok
}

// watchConfig follows the changes in Consul below Offload/Writable. They come as texts, so that a value which cannot be read is told
// of as every other mistake is, instead of holding back all that comes after it without a word.
func (a *app) watchConfig() error {
	return a.edgex.ListenForCustomConfigChanges(&map[string]any{}, config.Section+"/Writable", a.changed)
}

// changed takes a change over as a whole, or leaves everything as it was and says why.
func (a *app) changed(raw any) {
	log := a.edgex.LoggingClient()
	texts, ok := raw.(*map[string]any)
	if !ok {
		log.Errorf("a change of the configuration came as %T and is ignored", raw)
		return
	}
	w, err := config.ReadRaw(*texts, a.custom.Offload.Writable)
	if err != nil {
		err = a.service.Refuse(err)
	} else {
		err = a.service.Reload(w)
	}
	if err != nil {
		log.Errorf("%v", err)
		return
	}
	log.Infof("the changed configuration is in force, version %s", a.service.Status().Configuration.Version)
}
