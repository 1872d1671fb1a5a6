package mqtt

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
)

// The values of AuthMode, which are EdgeX's own.
const (
	AuthNone             = "none"
	AuthUsernamePassword = "usernamepassword"
	AuthClientCert       = "clientcert"
	AuthCACert           = "cacert"
)

// AuthModes returns all modes.
func AuthModes() []string {
	return []string{AuthNone, AuthUsernamePassword, AuthCACert, AuthClientCert}
}

// Credentials are the secrets for a broker, by the keys that EdgeX uses: username, password, clientcert, clientkey and cacert, the last three as PEM.
// Credentials beyond those of the AuthMode are used as well if present, so that a password can accompany a certificate.
type Credentials struct {
	Username, Password            string
	ClientCert, ClientKey, CACert []byte
}

// String hides the secrets, so that not even a careless log line shows them.
func (c Credentials) String() string { return "credentials (hidden)" }

// GoString hides the secrets from %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets from structured logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// require names a missing key that the mode needs.
func (c Credentials) require(mode string) error {
	switch {
	case mode == AuthUsernamePassword && c.Username == "":
		return errors.New("it has no username; AuthMode usernamepassword needs username and password")
	case mode == AuthClientCert && (len(c.ClientCert) == 0 || len(c.ClientKey) == 0):
		return errors.New("it lacks clientcert or clientkey; AuthMode clientcert needs both")
	case mode == AuthCACert && len(c.CACert) == 0:
		return errors.New("it has no cacert; AuthMode cacert needs it")
	}
	return nil
}

// TLS builds the configuration of a connection. Errors describe the problem with a key, never its content.
func (c Credentials) TLS(skipVerify bool) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify} // #nosec G402 -- the operator's explicit choice, documented as such
	if len(c.CACert) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(c.CACert) {
			return nil, errors.New("cacert holds no PEM certificate")
		}
	}
	if len(c.ClientCert) > 0 || len(c.ClientKey) > 0 {
		pair, err := tls.X509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("clientcert and clientkey do not make a pair: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Auth describes the login at a broker.
type Auth struct {
	Mode           string // one of the Auth words; "" means "none"
	Secret         string // name of the secret, for error messages
	SkipCertVerify bool   // trust any certificate of the broker
	// Credentials reads the secret anew for each connection, so that a rotated secret applies from the next one on. It is not called if Mode is "none".
	Credentials func() (Credentials, error)
}

// Login holds the login of one connection.
type Login struct {
	Username, Password string
	TLS                *tls.Config // for addresses with TLS
}

// LoginError is a login failure not caused by the broker: the secret is absent or wrong.
type LoginError struct{ Err error }

func (e *LoginError) Error() string { return e.Err.Error() }
func (e *LoginError) Unwrap() error { return e.Err }

// Login reads the secret and checks that it has what the mode needs.
func (a Auth) Login() (Login, error) {
	var c Credentials
	if mode := cmp.Or(a.Mode, AuthNone); mode != AuthNone {
		var err error
		if c, err = a.Credentials(); err != nil {
			return Login{}, fmt.Errorf("logging in with AuthMode %s: %w", mode, err)
		}
		if err := c.require(mode); err != nil {
			return Login{}, fmt.Errorf("secret %q: %w", a.Secret, err)
		}
	}
	t, err := c.TLS(a.SkipCertVerify)
	if err != nil {
		return Login{}, fmt.Errorf("secret %q: %w", a.Secret, err)
	}
	return Login{c.Username, c.Password, t}, nil
}
