package intake

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	a.pem, _ = a.issue(t, a.cert)
	block, _ := pem.Decode(a.pem)
	var err error
	a.cert, err = x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return a
}

// issue signs a certificate; the first one is self-signed.
func (a *authority) issue(t *testing.T, template *x509.Certificate) (certPEM, keyPEM []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	if a.key == nil {
		a.key = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func (a *authority) leaf(t *testing.T, usage x509.ExtKeyUsage) (certPEM, keyPEM []byte) {
	return a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	})
}

// brokerTLS requires a client certificate of the authority if mutual is set.
func (a *authority) brokerTLS(t *testing.T, mutual bool) *tls.Config {
	pair, err := tls.X509KeyPair(a.leaf(t, x509.ExtKeyUsageServerAuth))
	require.NoError(t, err)
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	cfg.ClientCAs.AddCert(a.cert)
	if mutual {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg
}

// ledger admits one user.
func ledger(user, password string) (broker.Hook, any) {
	return new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{Auth: auth.AuthRules{
		{Username: auth.RString(user), Password: auth.RString(password), Allow: true},
	}}}
}

func fixed(c Credentials) func() (Credentials, error) {
	return func() (Credentials, error) { return c, nil }
}

// requireFlow publishes one event and waits for it.
func requireFlow(t *testing.T, server *broker.Server, bus Bus) *Subscriber {
	sink := &testSink{}
	s := startSubscriber(t, testConfig(), bus, sink)
	publish(t, server, 1, 2)
	eventually(t, func() bool { return s.Counts().Acked == 1 }, "one event")
	return s
}

func TestUsernameAndPassword(t *testing.T) {
	hook, options := ledger("edge", "secret-1")
	server, at := startBroker(t, hook, options, nil)
	requireFlow(t, server, Bus{URL: "tcp://" + at, AuthMode: mqtt.AuthUsernamePassword, Credentials: fixed(Credentials{Username: "edge", Password: "secret-1"})})
}

func TestTLSWithCAOnly(t *testing.T) {
	ca := newAuthority(t)
	server, at := startBroker(t, new(auth.AllowHook), nil, ca.brokerTLS(t, false))
	requireFlow(t, server, Bus{URL: "ssl://" + at, AuthMode: mqtt.AuthCACert, Credentials: fixed(Credentials{CACert: ca.pem})})
}

func TestTLSWithClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	server, at := startBroker(t, new(auth.AllowHook), nil, ca.brokerTLS(t, true))
	cert, key := ca.leaf(t, x509.ExtKeyUsageClientAuth)
	requireFlow(t, server, Bus{URL: "tcps://" + at, AuthMode: mqtt.AuthClientCert, Credentials: fixed(Credentials{ClientCert: cert, ClientKey: key, CACert: ca.pem})})
}

func TestTLSWithoutVerification(t *testing.T) {
	ca := newAuthority(t)
	server, at := startBroker(t, new(auth.AllowHook), nil, ca.brokerTLS(t, false))
	requireFlow(t, server, Bus{URL: "tls://" + at, SkipCertVerify: true})
}

func TestAnUnknownBrokerIsNotTrusted(t *testing.T) {
	_, at := startBroker(t, new(auth.AllowHook), nil, newAuthority(t).brokerTLS(t, false))
	s := newSubscriber(t, testConfig(), Bus{URL: "ssl://" + at, AuthMode: mqtt.AuthCACert, Credentials: fixed(Credentials{CACert: newAuthority(t).pem})}, &testSink{})
	startBriefly(s)
	eventually(t, func() bool { return s.log.(*logLines).count("certificate") > 0 }, "said in the log")
	require.False(t, s.Counts().Connected)
	require.NoError(t, s.Stop(context.Background()))
}

func startBriefly(s *Subscriber) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	s.Start(ctx)
}

// TestASecretThatComesLate: a wrong password is retried and reported once; the right one applies from the next attempt.
func TestASecretThatComesLate(t *testing.T) {
	hook, options := ledger("edge", "secret-2")
	server, at := startBroker(t, hook, options, nil)
	var secret atomic.Pointer[Credentials]
	s := newSubscriber(t, testConfig(), Bus{URL: "tcp://" + at, AuthMode: mqtt.AuthUsernamePassword, Credentials: func() (Credentials, error) {
		if c := secret.Load(); c != nil {
			return *c, nil
		}
		return Credentials{}, errors.New("no such secret yet")
	}}, &testSink{})
	startBriefly(s)
	eventually(t, func() bool { return s.log.(*logLines).count("no such secret yet") == 1 }, "said in the log")
	secret.Store(&Credentials{Username: "edge", Password: "secret-2"})
	eventually(t, func() bool { return s.log.(*logLines).count("subscribed to the MQTT MessageBus") == 1 }, "connected")
	publish(t, server, 1, 2)
	eventually(t, func() bool { return s.Counts().Acked == 1 }, "one event")
	require.Zero(t, s.log.(*logLines).count("secret-2"), "no secret in the log")

	secret.Store(&Credentials{Username: "edge", Password: "secret-3"})
	s.Rotate()
	eventually(t, func() bool { return !s.Counts().Connected }, "the new secret is used, and is wrong")
	secret.Store(&Credentials{Username: "edge", Password: "secret-2"})
	eventually(t, func() bool { return s.Counts().Connected }, "connected again")
	require.NoError(t, s.Stop(context.Background()))
}
