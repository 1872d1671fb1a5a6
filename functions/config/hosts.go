package config

import (
	"regexp"
	"strings"
)

// hostName matches the name of a host, without a port.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?$`)

// Hosts returns the names in AllowedHosts.
func (c Config) Hosts() (names []string) {
	for name := range strings.SplitSeq(c.AllowedHosts, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}
