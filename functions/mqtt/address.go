package mqtt

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Address is a parsed broker URL.
type Address struct {
	Scheme    string
	Host      string // with a port
	TLS       bool
	WebSocket bool
	url       *url.URL
}

// schemes are the schemes in use for MQTT. The default ports are those of IANA's registry.
var schemes = map[string]struct {
	port   string
	secure bool
	web    bool
}{
	"tcp": {port: "1883"}, "mqtt": {port: "1883"}, "ws": {port: "80", web: true},
	"ssl": {port: "8883", secure: true}, "tls": {port: "8883", secure: true}, "tcps": {port: "8883", secure: true}, "mqtts": {port: "8883", secure: true},
	"wss": {port: "443", secure: true, web: true},
}

// Schemes lists them for error messages.
const Schemes = "tcp or mqtt, for TLS ssl, tls, tcps or mqtts, and ws or wss for web sockets"

// The errors of ParseAddress. They complete a sentence that begins with the address.
var (
	ErrAddress  = errors.New("must be URLs like tcp://host:1883 or ssl://host:8883, with a port from 1 to 65535")
	ErrScheme   = errors.New("has an unknown scheme; use " + Schemes)
	ErrPath     = errors.New("must end with the port: a path or more behind it has no effect on this scheme")
	ErrPassword = errors.New("must not carry a password; put it into the secret store")
)

// ParseAddress parses a broker's URL. The default port is 1883, for TLS 8883, and 80 or 443 for web sockets. The error never contains a password.
func ParseAddress(text string) (Address, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Hostname() == "" {
		return Address{}, ErrAddress
	}
	if u.User != nil {
		return Address{}, ErrPassword
	}
	scheme, known := schemes[u.Scheme]
	if !known {
		return Address{}, ErrScheme
	}
	if !scheme.web && BeyondPort(u) {
		return Address{}, ErrPath
	}
	port := cmp.Or(u.Port(), scheme.port)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Address{}, ErrAddress
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return Address{Scheme: u.Scheme, Host: u.Host, TLS: scheme.secure, WebSocket: scheme.web, url: u}, nil
}

// BeyondPort reports whether a URL has more than a slash after its port.
func BeyondPort(u *url.URL) bool {
	return strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != ""
}

// ParseAddresses parses a list separated by commas. The error names the first invalid address.
func ParseAddresses(list string) (all []Address, err error) {
	for text := range strings.SplitSeq(list, ",") {
		a, err := ParseAddress(text)
		if errors.Is(err, ErrPassword) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("broker %q: %w", strings.TrimSpace(text), err)
		}
		all = append(all, a)
	}
	return all, nil
}

// Redacted returns a URL's text without its password, for messages about ErrPassword.
func Redacted(text string) string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return "(hidden)"
	}
	return u.Redacted()
}

// String returns the URL with its port.
func (a Address) String() string { return a.url.String() }
