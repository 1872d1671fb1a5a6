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

// guard protects against DNS rebinding: a page of another site that lets its own name point to this machine, so that a user's browser treats both as
// one site. Requests are therefore answered only under the service's own names. IP addresses are exempt, since they cannot be rebound. Requests
// without a name, such as HTTP/1.0 probes, are exempt too: browsers never send them. In secure mode the guard is off: every request needs a token,
// which such a page does not have.
type guard struct {
	off   bool
	names []string // lower case, without a port; "*" matches every name
}

// newGuard allows, besides localhost, the names EdgeX knows the service by, the machine's name, and the configured names.
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

// plainName returns a name in the form in which it is compared: lower case, without a final dot.
func plainName(name string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
}

// refuse returns why a request must not be answered, or "".
func (g guard) refuse(r *http.Request) string {
	if g.off {
		return ""
	}
	name := hostname(r.Host)
	if !g.knows(name) {
		return "Host " + quoted(r.Host) + " is not a name of this service; use its IP address, or add the name to Offload.AllowedHosts"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return "Origin " + quoted(origin) + " is not allowed"
	}
	if strings.EqualFold(u.Host, r.Host) || slices.Contains(g.names, "*") || slices.Contains(g.names, plainName(u.Hostname())) {
		return ""
	}
	return "Origin " + quoted(origin) + " is another site; to allow it, add its name to Offload.AllowedHosts"
}

// knows reports whether name is one of the service's names, an address, or empty.
func (g guard) knows(name string) bool {
	address, _, _ := strings.Cut(name, "%") // the zone of an IPv6 address
	return name == "" || name == "localhost" || net.ParseIP(address) != nil || slices.Contains(g.names, name) || slices.Contains(g.names, "*")
}

// hostname returns the name or address in a Host header.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return plainName(strings.Trim(host, "[]"))
}

// quoted quotes and truncates text from a request.
func quoted(text string) string {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return `"` + strings.ToValidUTF8(text, "�") + `"`
}

// correlationHeader identifies a request across EdgeX's services.
const correlationHeader = "X-Correlation-ID"
