package mqtt

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIncompleteSecrets(t *testing.T) {
	login := func(mode string, c Credentials) error {
		_, err := Auth{Mode: mode, Secret: "bus", Credentials: func() (Credentials, error) { return c, nil }}.Login()
		return err
	}
	for mode, lacking := range map[string]string{AuthUsernamePassword: "username", AuthClientCert: "clientcert", AuthCACert: "cacert"} {
		require.ErrorContains(t, login(mode, Credentials{}), lacking)
	}
	require.ErrorContains(t, login(AuthCACert, Credentials{CACert: []byte("x")}), "PEM")
	require.ErrorContains(t, login(AuthClientCert, Credentials{ClientCert: []byte("x"), ClientKey: []byte("x")}), "clientkey")
	for _, half := range []Credentials{{Username: "edge", ClientCert: []byte("x")}, {Username: "edge", ClientKey: []byte("x")}} { // beyond the mode's
		require.ErrorContains(t, login(AuthUsernamePassword, half), "do not make a pair")
	}
	for _, half := range []Credentials{{ClientCert: []byte("x")}, {ClientKey: []byte("x")}} {
		require.ErrorContains(t, login(AuthClientCert, half), "it lacks clientcert or clientkey")
	}
	require.NoError(t, login(AuthUsernamePassword, Credentials{Username: "edge"}))
	require.NoError(t, Auth{}.err(), "without an AuthMode no secret is read")
}

func (a Auth) err() error { _, err := a.Login(); return err }

func TestCredentialsAreNotPrinted(t *testing.T) {
	c := Credentials{Username: "edge", Password: "pw-1", ClientKey: []byte("pw-1")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, c), "pw-1")
	}
	require.NotContains(t, c.LogValue().String(), "pw-1")
}
