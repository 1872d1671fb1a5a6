package ctl

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

var uiManual = manual{
	name: "ui", arguments: "[flags]",
	purpose: `
  Opens the service's page for a browser on this machine. In secure mode the service wants a JWT with every request, which no
  browser adds by itself: this proxy does, and keeps it from the page. It prints the page's address and serves until Ctrl-C.

  Only this machine can reach it, and only who has the address: its key, new in each run, becomes a cookie with the first
  visit. It forwards GET below /api/v3/offload/ and nothing else, and refuses other sites in the same browser.
`,
	examples: `
  offloadctl ui -token-file jwt                            a fresh JWT in the file takes effect without a restart
  OFFLOAD_TOKEN=$(cat jwt) offloadctl ui                   until that one runs out
  get-jwt | offloadctl ui -token-file -                    the same, from a command that prints one
  offloadctl ui -url https://gateway:8443/app-offload      through EdgeX's own proxy, from another machine
  ssh -t -L 8000:127.0.0.1:8000 gateway offloadctl ui -listen 127.0.0.1:8000 -token-file jwt
  docker run --rm -i --network host --entrypoint /offloadctl app-offload ui -token-file - < jwt
`,
	files: `
  -token-file    the JWT alone, read with each request. While it is gone or empty, the one read before stays in use
`,
	environment: apiEnvironment,
	exits: `
  0 ended by Ctrl-C; 1 it could not listen, or there is no token in the file; 2 wrong usage
`,
}

func uiVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.flags(uiManual)
	var api apiFlags
	api.registerAddress(fs.FlagSet)
	listen := fs.String("listen", "127.0.0.1:0", "where to serve the page: `host:port` of this machine alone; port 0 is any free one")
	rest, err := fs.parse(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fs.misused("%q: ui takes no arguments", rest[0])
	}
	if !isLoopback(*listen) {
		return fs.misused("-listen %q: must be like 127.0.0.1:8000, since every client that reaches it reads with your token; from another machine use ssh -L", *listen)
	}
	base, err := api.base(sh)
	if err != nil {
		return err
	}
	tokens := api.tokens(sh)
	if _, err := tokens.get(); err != nil {
		return err
	}
	key := make([]byte, 16)
	if _, err := io.ReadFull(sh.random, key); err != nil {
		return fmt.Errorf("drawing the key of the address: %w", err)
	}
	p, err := newProxy(base, base64.RawURLEncoding.EncodeToString(key), tokens)
	if err != nil {
		return err
	}
	return p.serve(ctx, sh, *listen)
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isThisMachine(host)
}

// isThisMachine knows the names of this machine that no name server has a say in.
func isThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// farewell is how long an answer on its way may take at the end.
const farewell = time.Second

// serve listens until ctx ends.
func (p *proxy) serve(ctx context.Context, sh *shell, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen %s: %w", listen, err)
	}
	if !isLoopback(l.Addr().String()) { // localhost is whatever the hosts file says
		return errors.Join(fmt.Errorf("-listen %s: is %s here, which other machines reach", listen, l.Addr()), l.Close())
	}
	p.named(l.Addr())
	if err := p.try(ctx); err != nil {
		fmt.Fprintf(sh.err, "%s ui: %v; serving all the same\n", Name, err)
	}
	fmt.Fprintf(sh.out, "%s\n", p.address(l.Addr()))
	fmt.Fprintln(sh.err, "open this address in a browser; it holds a key, so keep it to yourself. Ctrl-C ends.")
	server := &http.Server{Handler: p, ReadHeaderTimeout: apiTimeout, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err = <-ended:
		return fmt.Errorf("serving the page: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close() // who has not got an answer by now gets none
	}
	<-ended
	return nil
}
