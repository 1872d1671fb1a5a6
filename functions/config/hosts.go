package config

import (
	"regexp"
	"strings"

	"app-offload/functions/check"
)

// hostName is one name of a host, without a port.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$`)

// Hosts are the names in AllowedHosts.
func (c Config) Hosts() (names []string) {
	for name := range strings.SplitSeq(c.AllowedHosts, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (c Config) checkHosts(p *check.Problems) {
	for _, name := range c.Hosts() {
		if name != "*" && !hostName.MatchString(name) {
			p.Addf("AllowedHosts", c.AllowedHosts, "%q must be the name of a host, without scheme and port, such as gateway-7.plant.example, or * for every name", name)
		}
	}
}
