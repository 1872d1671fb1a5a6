package main

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"app-offload/functions/edgex"
)

// guard keeps pages of other sites from asking the service through the browser of somebody who can reach it. Such a page needs a name:
// its own, which it lets point to this machine (DNS rebinding), so that the browser takes both for one site. A request is therefore
// answered under the service's names alone. IP addresses are exempt: they cannot be rebound. So are requests without a name, as probes by
// HTTP/1.0 are: no browser sends one. In secure mode every request
// needs a token, which no such page has.
type guard struct {
	off   bool
	names []string // in small letters, without a port; "*" is every name
}

// newGuard takes the names that the service has besides localhost: as EdgeX knows it, as the machine is called, and as configured.
func newGuard(bus edgex.BusConfig, configured []string, secure bool) guard {
	names := []string{bus.ServiceHost, bus.ServiceKey, serviceKey}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	g := guard{off: secure}
	for _, name := range append(names, configured...) {
		if name = plainName(name); name != "" {
			g.names = append(g.names, name)
		}
	}
	return g
}

// plainName is a name as it is compared: in small letters, without the dot that may end it.
func plainName(name string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
}

// refuse says why a request is not answered, "" where it is.
func (g guard) refuse(r *http.Request) string {
	if g.off {
		return ""
	}
	name := hostname(r.Host)
	if !g.knows(name) {
		return "Host " + quoted(r.Host) + " is no name of this service; ask it by its address, or add the name to Offload.AllowedHosts"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return "Origin " + quoted(origin) + " is no site that may ask here"
	}
	if strings.EqualFold(u.Host, r.Host) || slices.Contains(g.names, "*") || slices.Contains(g.names, plainName(u.Hostname())) {
		return ""
	}
	return "a page of " + quoted(origin) + " asks, which is another site; add its name to Offload.AllowedHosts if it may"
}

// knows reports whether a name is one of the service's, or an address, or none at all.
func (g guard) knows(name string) bool {
	address, _, _ := strings.Cut(name, "%") // the zone of an IPv6 address
	return name == "" || name == "localhost" || net.ParseIP(address) != nil || slices.Contains(g.names, name) || slices.Contains(g.names, "*")
}

// hostname is the name or address in a Host header.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return plainName(strings.Trim(host, "[]"))
}

// quoted bounds what came from outside.
func quoted(text string) string {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return `"` + strings.ToValidUTF8(text, "�") + `"`
}

// correlationHeader goes through all of EdgeX's services with a request.
const correlationHeader = "X-Correlation-ID"
