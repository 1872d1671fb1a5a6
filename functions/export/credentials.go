package export

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
)

// Credentials are the node's secrets for the broker, by the keys that EdgeX uses: username, password, clientcert,
// clientkey and cacert, the last three as PEM. Whatever AuthMode does not ask for is used as well if it is there, so
// that a password can accompany a certificate.
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

// require says which key of the secret is missing for the mode.
func (c Credentials) require(mode string) error {
	switch {
	case mode == AuthUsernamePassword && c.Username == "":
		return errors.New("the secret has no username; AuthMode usernamepassword needs username and password")
	case mode == AuthClientCert && (len(c.ClientCert) == 0 || len(c.ClientKey) == 0):
		return errors.New("the secret lacks clientcert or clientkey; AuthMode clientcert needs both")
	case mode == AuthCACert && len(c.CACert) == 0:
		return errors.New("the secret has no cacert; AuthMode cacert needs it")
	}
	return nil
}

// tlsConfig builds the TLS side. Errors name what is wrong with a key, never its content.
func (c Credentials) tlsConfig(skipVerify bool) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify} // #nosec G402 -- the operator's explicit choice, documented as such
	if len(c.CACert) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(c.CACert) {
			return nil, errors.New("cacert of the secret holds no PEM certificate")
		}
	}
	if len(c.ClientCert) > 0 || len(c.ClientKey) > 0 {
		pair, err := tls.X509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("clientcert and clientkey of the secret do not make a pair: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
