package intake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"app-offload/functions/check"
)

// The words of EdgeX for the ways to log in at the MessageBus.
const (
	AuthNone             = "none"
	AuthUsernamePassword = "usernamepassword"
	AuthClientCert       = "clientcert"
	AuthCACert           = "cacert"
)

// Bus says where the MQTT MessageBus is and how to log in. The wiring fills it from what the SDK's own MessageBus and
// Trigger configuration says.
type Bus struct {
	URL      string   // scheme tcp or mqtt; ssl, tls, tcps or mqtts for TLS
	Topics   []string // filters with their base prefix, e.g. edgex/events/#
	ClientID string   // used where Config.ClientID is empty

	// Remember is a file in which the topics of the session are kept, so that those no longer configured are unsubscribed from; "" keeps none.
	Remember string

	AuthMode       string // one of the Auth words; "" is none
	SkipCertVerify bool   // trust any certificate of the broker
	// Credentials is asked at each connection, so that a rotated secret holds from the next one on. nil where AuthMode is none.
	Credentials func() (Credentials, error)
	// Skip names topics whose messages are acknowledged unread, such as the service's own results; nil skips none.
	Skip func(topic string) bool
}

// Credentials is what the secret of the MessageBus holds; which parts there must be depends on the AuthMode.
type Credentials struct {
	Username, Password     string
	CertPEM, KeyPEM, CAPEM []byte
}

var (
	plainSchemes = []string{"tcp", "mqtt"}
	tlsSchemes   = []string{"ssl", "tls", "tcps", "mqtts"}
)

func (b Bus) validate(cfg Config) error {
	p := check.In("MessageBus")
	if at, err := url.Parse(b.URL); err != nil || at.Host == "" {
		p.Addf("URL", b.URL, "is no address; it reads like tcp://localhost:1883")
	} else {
		p.OneOf("Protocol", strings.ToLower(at.Scheme), slices.Concat(plainSchemes, tlsSchemes)...)
	}
	if len(b.Topics) == 0 {
		p.Addf("SubscribeTopics", "", "at least one topic is needed")
	}
	if b.ClientID == "" && cfg.PersistentSession {
		p.Addf("ClientID", "", "a persistent session needs a fixed client id; set Intake.ClientID")
	}
	p.OneOf("AuthMode", b.mode(), AuthNone, AuthUsernamePassword, AuthClientCert, AuthCACert)
	if b.mode() != AuthNone && b.Credentials == nil {
		p.Addf("AuthMode", b.AuthMode, "needs a secret")
	}
	return p.Err()
}

func (b Bus) mode() string {
	if b.AuthMode == "" {
		return AuthNone
	}
	return b.AuthMode
}

// credentials asks for the secret and checks that it holds what the mode needs.
func (b Bus) credentials() (Credentials, error) {
	if b.mode() == AuthNone {
		return Credentials{}, nil
	}
	c, err := b.Credentials()
	if err != nil {
		return c, fmt.Errorf("reading the secret for AuthMode %q: %w", b.AuthMode, err)
	}
	lacking := ""
	switch b.mode() {
	case AuthUsernamePassword:
		if c.Username == "" {
			lacking = "username"
		}
	case AuthClientCert:
		if len(c.CertPEM) == 0 || len(c.KeyPEM) == 0 {
			lacking = "clientcert or clientkey"
		}
	case AuthCACert:
		if len(c.CAPEM) == 0 {
			lacking = "cacert"
		}
	}
	if lacking != "" {
		return c, fmt.Errorf("the secret for AuthMode %q has no %s", b.AuthMode, lacking)
	}
	return c, nil
}

func (b Bus) tlsConfig(host string) (*tls.Config, error) {
	c, err := b.credentials()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: b.SkipCertVerify} // #nosec G402 -- the operator's explicit choice
	if len(c.CAPEM) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(c.CAPEM) {
			return nil, errors.New("the cacert of the MessageBus secret holds no certificate in PEM")
		}
	}
	if b.mode() == AuthClientCert {
		pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
		if err != nil {
			return nil, fmt.Errorf("reading clientcert and clientkey of the MessageBus secret: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
