package export

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
)

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.cert = c
	a.pem, a.key = a.sign(c, nil)
	return a
}

// sign creates a key and a certificate for it; without a parent key the certificate is self-signed.
func (a *authority) sign(c *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, by)
	require.NoError(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// issue creates a certificate for the broker on this machine, or for a client.
func (a *authority) issue(name string, use x509.ExtKeyUsage) (cert, key []byte) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, k := a.sign(c, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(a.t, err)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// hashed returns a line of mosquitto's password file.
func hashed(t *testing.T, user, password string) string {
	salt := []byte("saltsaltsalt")
	key, err := pbkdf2.Key(sha512.New, password, salt, 101, 64)
	require.NoError(t, err)
	return fmt.Sprintf("%s:$7$101$%s$%s\n", user, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(key))
}

// mosquitto is Debian's broker with TLS, client certificates and passwords.
type mosquitto struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
	node Credentials
	tls  *tls.Config
}

func startMosquitto(t *testing.T, extra string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, dir: t.TempDir()}
	a := newAuthority(t)
	cert, key := a.issue("broker", x509.ExtKeyUsageServerAuth)
	m.node.ClientCert, m.node.ClientKey = a.issue("node", x509.ExtKeyUsageClientAuth)
	m.node.CACert, m.node.Username, m.node.Password = a.pem, "node", "canary-node"
	cloud := Credentials{CACert: a.pem}
	cloud.ClientCert, cloud.ClientKey = a.issue("cloud", x509.ExtKeyUsageClientAuth)
	var err error
	m.tls, err = cloud.TLS(false)
	require.NoError(t, err)

	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	m.port = l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	write := func(name string, content []byte) string {
		path := filepath.Join(m.dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	write("conf", fmt.Appendf(nil, `user root
listener %d 127.0.0.1
cafile %s
certfile %s
keyfile %s
require_certificate true
allow_anonymous false
password_file %s
persistence false
max_queued_messages 0
max_inflight_messages 0
%s
`, m.port, write("ca", a.pem), write("cert", cert), write("key", key),
		write("passwords", []byte(hashed(t, "node", "canary-node")+hashed(t, "cloud", "cloud"))), extra))
	m.start()
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = mosquittotest.Run(m.t, mosquittotest.Program(m.t), filepath.Join(m.dir, "conf"), fmt.Sprintf("127.0.0.1:%d", m.port))
}

// kill ends the broker like a power cut.
func (m *mosquitto) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

func (m *mosquitto) url() string { return fmt.Sprintf("ssl://127.0.0.1:%d", m.port) }

// consumer connects a consumer that reconnects after each loss of its connection, each time with a new client.
func (m *mosquitto) consumer() *consumer {
	m.t.Helper()
	c := newConsumer(m.t)
	work := make(chan paho.Message, 4096) // a handler of the client must not publish, so that is done elsewhere
	var current atomic.Pointer[paho.Client]
	c.say = func(topic string, msg []byte) { (*current.Load()).Publish(topic, 1, false, msg) }
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			lost := make(chan struct{})
			client := paho.NewClient(m.options(work, lost))
			current.Store(&client)
			if t := client.Connect(); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			client.SubscribeMultiple(map[string]byte{seal.TopicRoot + "+/batch/#": 1, seal.TopicRoot + "+/gone": 1}, nil).WaitTimeout(time.Second)
			select {
			case <-first:
			default:
				close(first)
			}
			select {
			case <-lost:
			case <-ctx.Done():
				client.Disconnect(100)
			}
		}
	})
	all.Go(func() {
		for {
			select {
			case p := <-work:
				c.consume(p.Topic(), p.Payload())
			case <-ctx.Done():
				return
			}
		}
	})
	m.t.Cleanup(func() { cancel(); all.Wait() })
	<-first
	return c
}

func (m *mosquitto) options(work chan<- paho.Message, lost chan<- struct{}) *paho.ClientOptions {
	o := paho.NewClientOptions().AddBroker(m.url()).SetClientID("cloud").SetCleanSession(false).SetAutoReconnect(false)
	o.SetTLSConfig(m.tls).SetUsername("cloud").SetPassword("cloud").SetWriteTimeout(time.Second)
	o.SetDefaultPublishHandler(func(_ paho.Client, p paho.Message) { work <- p })
	o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
	return o
}

func (m *mosquitto) config() Config {
	cfg := quick("")
	cfg.Broker, cfg.AuthMode = m.url(), mqtt.AuthClientCert
	cfg.ReceiptTimeout = "500ms"
	return cfg
}

func (m *mosquitto) credentials(d *Deps) {
	d.Credentials = func() (Credentials, error) { return m.node, nil }
}

func TestMosquittoWithCertificatesAndPassword(t *testing.T) {
	m := startMosquitto(t, "")
	c := m.consumer()
	s := newShelf(t)
	r := newRig(t, m.config(), s, m.credentials)
	for i := range 50 {
		s.put(fmt.Sprint("d", i%5), 20, 200)
	}
	r.settled()
	c.look(func() {
		require.Len(t, c.stored, 1000)
		require.Empty(t, c.overtook)
	})

	// The broker crashes and loses everything, sessions and acknowledged messages; no record is lost.
	for range 3 {
		for range 30 {
			s.put("d", 20, 200)
		}
		time.Sleep(20 * time.Millisecond)
		m.kill()
		s.put("d", 20, 200)
		m.start()
	}
	r.settled()
	c.look(func() { require.Len(t, c.stored, 1000+3*620) })
	require.Zero(t, r.Stats().SetAside)
	require.Zero(t, r.log.with("canary"))
}

// mosquitto answers a denied subscription as if it were granted. The denial shows only as silence, which log and status report with the topic; the
// records stay, and leave once the rule is removed.
func TestMosquittoDeniesTheReceiptTopic(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl")
	allow := func(node string) {
		require.NoError(t, os.WriteFile(acl, []byte("user cloud\ntopic readwrite #\nuser node\ntopic readwrite #\n"+node), 0o600))
	}
	topic := seal.ReceiptTopic(node)
	allow("topic deny " + topic + "\n")
	m := startMosquitto(t, "acl_file "+acl)
	m.consumer()
	s := newShelf(t)
	r := newRig(t, m.config(), s, m.credentials)
	for range 50 {
		s.put("d", 20, 200)
	}
	until(t, "log and status name the topic", func() bool {
		st := r.Stats()
		return r.log.with("WARN", "no receipt has arrived", "let this node read "+topic) > 0 && st.ReceiptsSilent && strings.Contains(st.Silence, topic)
	})
	require.Zero(t, r.Stats().SetAside)
	allow("")
	require.NoError(t, m.cmd.Process.Signal(syscall.SIGHUP))
	r.settled()
	require.Empty(t, r.Stats().Silence)
}

func TestMosquittoRefusesWhoIsNotKnown(t *testing.T) {
	m := startMosquitto(t, "")
	for name, tc := range map[string]struct {
		change func(*Config, *Credentials)
		kind   string
	}{
		"wrong password": {func(_ *Config, c *Credentials) { c.Password = "canary-wrong" }, "connect"},
		"no client certificate": {func(cfg *Config, c *Credentials) {
			cfg.AuthMode = mqtt.AuthCACert
			c.ClientCert, c.ClientKey = nil, nil
		}, "connect"},
		"a broker of an unknown CA": {func(_ *Config, c *Credentials) { c.CACert = newAuthority(t).pem }, "connect"},
		"a client of an unknown CA": {func(_ *Config, c *Credentials) {
			c.ClientCert, c.ClientKey = newAuthority(t).issue("x", x509.ExtKeyUsageClientAuth)
		}, "connect"},
		"the secret lacks the key":  {func(_ *Config, c *Credentials) { c.ClientKey = nil }, "credentials"},
		"the certificate is no PEM": {func(_ *Config, c *Credentials) { c.ClientCert = []byte("canary") }, "credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, c := m.config(), m.node
			tc.change(&cfg, &c)
			s := newShelf(t)
			r := newRig(t, cfg, s, func(d *Deps) { d.Credentials = func() (Credentials, error) { return c, nil } })
			s.put("d", 10, 10)
			until(t, "it is refused", func() bool { return r.Stats().Errors[tc.kind] > 1 })
			require.Zero(t, r.Stats().Acked)
			require.Zero(t, r.log.with("canary"))
			require.Positive(t, r.log.with("WARN"))
			require.LessOrEqual(t, r.log.with("WARN"), 4, "once for each way in which TLS words it")
		})
	}
}

// Mosquitto acknowledges a message above its message_size_limit and discards it.
func TestMosquittoSwallowsWhatIsTooLarge(t *testing.T) {
	m := startMosquitto(t, "message_size_limit 4000")
	c := m.consumer()
	s := newShelf(t)
	cfg := m.config()
	cfg.ReceiptTimeout, cfg.UnreceiptedTries = "100ms", 1 // few: on a busy machine each takes seconds
	r := newRig(t, cfg, s, m.credentials)
	s.put("d", 5, 10)
	r.settled()
	s.putLarge("d", 8000)
	until(t, "it is published by itself", func() bool { return r.Stats().Inflight > 0 })
	until(t, "it is given up", func() bool {
		s.put("d", 1, 10)
		time.Sleep(20 * time.Millisecond)
		return s.Fate(6) != "held"
	})
	require.Equal(t, "dropped:"+reasonUnreceipted, s.Fate(6))
	r.settled()
	held := 0
	c.look(func() { held = len(c.stored) })
	require.EqualValues(t, s.next-2, held)
}

// Mosquitto closes the connection on a message above max_packet_size, without a reason: the record is found and named while all others pass, and is
// dropped only because they did.
func TestMosquittoWithAPacketLimitHoldsUpOneRecordOnly(t *testing.T) {
	m := startMosquitto(t, "max_packet_size 200000")
	c := m.consumer()
	s := newShelf(t)
	cfg := m.config()
	cfg.RefusedTries = 0 // never drops
	r := newRig(t, cfg, s, m.credentials)
	for i := range 518 {
		if i == 200 {
			s.putLarge("d", 300_000)
			continue
		}
		s.put("d", 1, 500)
	}
	until(t, "all others are there", func() bool { return c.distinct() == 517 })
	until(t, "it is named", func() bool {
		return r.log.with("WARN", "export held: reason=too_large", "record 201", "max_packet_size") == 1
	})
	until(t, "all others are receipted", func() bool { held, _ := s.count(); return held == 1 })
	require.Zero(t, r.Stats().SetAside)
	s.put("d", 100, 500)
	until(t, "and later ones", func() bool { return c.distinct() == 617 })
	c.look(func() { require.Empty(t, c.overtook) })
}
