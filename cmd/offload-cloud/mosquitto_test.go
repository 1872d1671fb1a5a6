package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
)

// Two consumers share the messages and a database; one of them is killed and does not return. Its messages are lost at the broker, and the nodes send
// them again because of the missing receipts.
func TestSharedSubscriptionIsSafeThroughReceipts(t *testing.T) {
	address, dsn := mosquittotest.Start(t, ""), pgtest.Start(t).Database(t)
	random := seed(t)
	var workers []*child
	for i := range 2 {
		workers = append(workers, startChild(t, "-from", "mqtt://"+address, "-store", dsn, "-share", "workers", "-id", "worker-"+strconv.Itoa(i)))
		workers[i].awaitReady(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	edge := (&edgetest.Edge{
		Node: "n1", Epoch: "e1", Records: 6000, Doubles: 0.02, Resend: 400 * time.Millisecond, Rand: rand.New(rand.NewPCG(random.Uint64(), 2)),
	}).Prepare(t)
	var running sync.WaitGroup
	running.Go(func() { edge.Run(ctx, t, "tcp://"+address) })
	for edge.Left() > 4000 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	workers[0].end(t, syscall.SIGKILL)
	running.Wait()
	workers[1].end(t, syscall.SIGTERM)
	verify(t, dsn, edge)
}

// The broker requires a certificate and a password; the consumer has both and verifies the broker's certificate.
func TestTLSWithClientCertificateAndPassword(t *testing.T) {
	dir := t.TempDir()
	authority := newAuthority(t, dir)
	authority.issue(t, dir, "server")
	authority.issue(t, dir, "client")
	secure := mosquittotest.FreeAddress(t)
	_, port, err := net.SplitHostPort(secure)
	require.NoError(t, err)
	address := mosquittotest.Start(t, fmt.Sprintf("listener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n", port,
		filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("secret-canary\n"), 0o600))

	_, log, stop := program(t, "-from", "mqtts://"+secure, "-store", "sqlite:"+filepath.Join(dir, "cloud.db"), "-user", "cloud",
		"-password-file", filepath.Join(dir, "password"), "-tls-ca", filepath.Join(dir, "ca.pem"),
		"-tls-cert", filepath.Join(dir, "client.pem"), "-tls-key", filepath.Join(dir, "client-key.pem"))
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	r.send(t, batchTopic, newEdge(t, nil).Batch(t, 1, 1, 2))
	require.Equal(t, []seal.Range{{First: 1, Last: 2}}, r.receipt(t).Safe)
	require.Zero(t, stop(), log.String())
	require.NotContains(t, log.String(), "secret-canary")
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = certificate(t, dir, "ca", &x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

func (a *authority) issue(t *testing.T, dir, name string) {
	t.Helper()
	certificate(t, dir, name, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
}

// certificate writes NAME.pem and NAME-key.pem, signed by the authority or by itself.
func certificate(t *testing.T, dir, name string, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	require.NoError(t, err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter, template.BasicConstraintsValid = time.Now().Add(-time.Hour), time.Now().Add(time.Hour), true
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, by.cert, &key.PublicKey, by.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for path, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}
