package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/functions/atomicfile"
	"app-offload/functions/check"
	"app-offload/functions/keys"
	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
)

// sourceFlags are the flags of the source of messages and of the client's identity.
type sourceFlags struct {
	from, id, share, user, passwordFile string
	ca, cert, key, serverName           string
	replies                             string
	confirm                             bool     // results are published, so confirmations are received
	below                               []string // topics to subscribe to instead of the consumer's, below the root
	temporary                           bool     // the broker discards the session at its end
}

func (f *sourceFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.from, "from", "", "broker to receive from: mqtt://host:1883, mqtts://host:8883 for TLS, "+
		"nats://a:4222,b:4222 for a NATS cluster with an MQTT listener, or http://127.0.0.1:8080 to listen for posts of KubeEdge's router")
	fs.StringVar(&f.replies, "replies", "", "with -from http://…: where receipts are posted to, such as http://cloudcore:9443/{node}/offload/receipts")
	fs.StringVar(&f.id, "id", "offload-cloud-"+hostname(), "name of the session at the broker; unique for each consumer")
	fs.StringVar(&f.share, "share", "", "group of consumers that share the messages; they need one PostgreSQL and, over MQTT, different -id")
	fs.StringVar(&f.user, "user", "", "user name at the broker")
	fs.StringVar(&f.passwordFile, "password-file", "", "file with the password, read at each connection")
	fs.StringVar(&f.ca, "tls-ca", "", "file with CA certificates (PEM) for the broker's certificate; the system's if empty")
	fs.StringVar(&f.cert, "tls-cert", "", "file with the client certificate (PEM)")
	fs.StringVar(&f.key, "tls-key", "", "file with the client certificate's key (PEM)")
	fs.StringVar(&f.serverName, "tls-server-name", "", "name expected in the broker's certificate; the host's if empty")
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "1"
	}
	return name
}

// sourceLimits are values of other flags that a source needs.
type sourceLimits struct {
	maxMessage int64 // bytes
	queue      int64 // bytes
	keys       bool  // messages must be sealed
}

// transport returns the transport for -from.
func (f *sourceFlags) transport(limits sourceLimits, log *slog.Logger) (consume.Transport, error) {
	if strings.Contains(f.from, "@") { // not shown, since the ready line and errors show the rest
		return nil, errors.New("-from contains a user or a password; use -user and -password-file")
	}
	first, _, _ := strings.Cut(f.from, ",") // NATS takes several servers
	u, err := url.Parse(first)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("-from %q: write it like mqtt://host:1883", f.from)
	}
	if strings.ContainsAny(f.share, "/+#.*> ") {
		return nil, fmt.Errorf("-share %q: a group's name must not contain a space or / + # . * >", f.share)
	}
	if err := f.check(u.Scheme); err != nil {
		return nil, err
	}
	for server := range strings.SplitSeq(f.from, ",") {
		if u, err := url.Parse(server); err == nil && mqtt.BeyondPort(u) && (u.Scheme == "nats" || u.Scheme == "http") {
			return nil, fmt.Errorf("-from %q: it %w", f.from, mqtt.ErrPath)
		}
	}
	switch u.Scheme {
	case "nats":
		return f.nats(limits, log)
	case "http":
		return f.http(u.Host, limits, log)
	}
	at, err := mqtt.ParseAddress(f.from)
	if errors.Is(err, mqtt.ErrScheme) {
		return nil, fmt.Errorf("-from %q: the scheme must be mqtt, mqtts, nats or http", f.from)
	}
	if err != nil {
		return nil, fmt.Errorf("-from %q: it %w", f.from, err)
	}
	c := consume.MQTTConfig{URL: at.String(), Confirm: f.confirm, Below: f.below, Temporary: f.temporary, ID: f.id, Share: f.share, Max: limits.maxMessage, Login: f.login(log), Log: log}
	switch {
	case at.TLS:
		c.TLS, err = f.tls()
	case f.saysTLS():
		return nil, fmt.Errorf("-from %q with -tls-…: %s:// is not encrypted; write mqtts://", f.from, u.Scheme)
	}
	return consume.NewMQTT(c), err
}

// check rejects flags that have no effect on this source.
func (f *sourceFlags) check(scheme string) error {
	switch {
	case len(f.id) > 256 || !check.Printable(f.id):
		return fmt.Errorf("-id %.64q: it must be printable and have 1 to 256 bytes", f.id)
	case scheme != "nats" && strings.Contains(f.from, ","):
		return fmt.Errorf("-from %q: %s:// takes one broker", f.from, scheme)
	case f.passwordFile != "" && f.user == "":
		return errors.New("-password-file is given, and -user is missing")
	case (f.cert == "") != (f.key == ""):
		return errors.New("-tls-cert and -tls-key need each other")
	case scheme != "http" && f.replies != "":
		return errors.New("-replies is for -from http://… only")
	case scheme == "http" && (f.share != "" || f.user != "" || f.saysTLS()):
		return errors.New("-share, -user and -tls-… have no effect with -from http://…")
	}
	_, err := f.password()
	return err
}

func (f *sourceFlags) saysTLS() bool { return f.ca != "" || f.cert != "" || f.serverName != "" }

// http listens itself; receipts go to the separate address of -replies.
func (f *sourceFlags) http(address string, limits sourceLimits, log *slog.Logger) (consume.Transport, error) {
	u, err := url.Parse(f.replies)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("-replies %q: -from http://… needs a URL for receipts, such as http://cloudcore:9443/{node}/offload/receipts", f.replies)
	}
	if strings.ContainsAny(f.replies, "?#") {
		return nil, fmt.Errorf("-replies %q: the node and the kind of message are added to its path, so it must have neither ? nor #", f.replies)
	}
	if !limits.keys && !loopback(address) {
		log.Warn("no -keys: any client that reaches this address can store records and receive receipts; listen on 127.0.0.1, or give keys",
			"address", address)
	}
	return consume.NewHTTP(consume.HTTPConfig{
		Address: address, Replies: strings.TrimRight(f.replies, "/"), Max: limits.maxMessage, Reading: limits.queue, Log: log,
	}), nil
}

// loopback reports whether the address is reachable only from this host.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}

// nats uses TLS if any TLS flag is set.
func (f *sourceFlags) nats(limits sourceLimits, log *slog.Logger) (consume.Transport, error) {
	c := consume.NATSConfig{URLs: f.from, Confirm: f.confirm, Durable: "offload-cloud", Max: limits.maxMessage, Login: f.login(log), Log: log}
	if f.share != "" {
		c.Durable = f.share
	}
	if f.saysTLS() {
		conf, err := f.tls()
		if err != nil {
			return nil, err
		}
		c.TLS = conf
	}
	return consume.NewNATS(c), nil
}

// login returns a function that reads the password for each connection, nil without a user.
func (f *sourceFlags) login(log *slog.Logger) func() (user, password string) {
	if f.user == "" {
		return nil
	}
	return func() (string, string) {
		password, err := f.password()
		if err != nil {
			log.Error("connecting without a password", "error", err)
		}
		return f.user, password
	}
}

// single checks that the source delivers all messages to this process.
func (f *sourceFlags) single() error {
	if !strings.HasPrefix(f.from, "mqtt://") && !strings.HasPrefix(f.from, "mqtts://") || f.share != "" {
		return errors.New("-from must be mqtt:// or mqtts://, without -share")
	}
	return nil
}

func (f *sourceFlags) password() (string, error) {
	if f.passwordFile == "" {
		return "", nil
	}
	content, err := atomicfile.Read(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("reading -password-file: %w", err)
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

func (f *sourceFlags) tls() (*tls.Config, error) {
	var c mqtt.Credentials
	for _, file := range []struct {
		flag, path string
		to         *[]byte
	}{{"-tls-ca", f.ca, &c.CACert}, {"-tls-cert", f.cert, &c.ClientCert}, {"-tls-key", f.key, &c.ClientKey}} {
		if file.path == "" {
			continue
		}
		pem, err := os.ReadFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file.flag, err)
		}
		*file.to = pem
	}
	conf, err := c.TLS(false)
	if err != nil {
		return nil, fmt.Errorf("-tls-ca %s, -tls-cert %s and -tls-key %s: %w", f.ca, f.cert, f.key, err)
	}
	conf.ServerName = f.serverName
	return conf, nil
}

// keyFlags are the flags for opening messages and sealing receipts.
type keyFlags struct {
	path, cipher string
	allowPlain   bool
	maxDataMiB   int
	maxMiB       int
	files        *keys.Files // nil before codecs, and without keys
}

func (f *keyFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.path, "keys", "", "folder with a file for each key, named by its id, or a file with an id and a key on each line; "+
		"hex or base64. With keys, messages that are not sealed are refused")
	fs.StringVar(&f.cipher, "cipher", seal.CipherAuto, "cipher of the receipts: auto, aes-256-gcm, aes-eax or none")
	fs.BoolVar(&f.allowPlain, "allow-plain", false, "also accept messages that are not sealed; only for a migration")
	fs.IntVar(&f.maxMiB, "max-message-mib", 16, "maximum size of a message; a larger one is quarantined without its content; announced to nodes")
	fs.IntVar(&f.maxDataMiB, "max-data-mib", 64, "maximum size of the unpacked content of a message; announced to nodes")
}

// takes returns the limits that the consumer announces to the nodes.
func (f *keyFlags) takes() seal.ConsumerLimits {
	return seal.ConsumerLimits{MaxMessage: int64(f.maxMiB) << 20, MaxData: int64(f.maxDataMiB) << 20}
}

// problem returns what is wrong with the keys, "" if nothing is. Valid keys stay in use.
func (f *keyFlags) problem() string {
	if f.files == nil {
		return ""
	}
	return f.files.Problem()
}

// codecs returns an opener and a sealer, with or without keys.
func (f *keyFlags) codecs(log *slog.Logger) (*seal.Opener, *seal.Sealer, error) {
	if f.maxMiB < 1 || f.maxMiB > 256 {
		return nil, nil, fmt.Errorf("-max-message-mib %d: it must be from 1 to 256, the maximum of MQTT", f.maxMiB)
	}
	if f.maxDataMiB < 1 || f.maxDataMiB > 1024 {
		return nil, nil, fmt.Errorf("-max-data-mib %d: it must be from 1 to 1024", f.maxDataMiB)
	}
	cfg, limits := seal.DefaultConfig(), seal.Limits{MaxMessageKiB: f.maxMiB << 10, MaxDataMiB: f.maxDataMiB, AllowPlain: f.allowPlain}
	cfg.Cipher = f.cipher
	var ring seal.Keys // stays nil without keys
	if f.path != "" {
		files, err := keys.LoadFiles(f.path, func(problem string) {
			if problem == "" {
				log.Info("all keys are valid again")
				return
			}
			log.Error("keys are invalid, keeping their previous contents and all other keys", "problem", problem)
		})
		if err != nil {
			return nil, nil, err
		}
		f.files, ring = files, files
	}
	sealer, err := seal.NewSealer(cfg, ring)
	if err != nil {
		return nil, nil, fmt.Errorf("sealing receipts: %w", err)
	}
	if f.path == "" && f.cipher != seal.CipherAuto && f.cipher != seal.CipherNone {
		return nil, nil, fmt.Errorf("-cipher %s needs -keys", f.cipher)
	}
	return seal.NewOpener(ring, limits), sealer, nil
}
