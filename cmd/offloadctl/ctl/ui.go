package ctl

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"time"
)

func uiVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.flags("ui")
	var api apiFlags
	api.registerAddress(fs.FlagSet)
	listen := fs.String("listen", "127.0.0.1:0", "local `host:port` to serve the page on; port 0 is any free port")
	if err := fs.parseOnly(args, "ui takes no arguments"); err != nil {
		return err
	}
	if !isLoopback(*listen) {
		return fs.misused("-listen %q: must be a local address like 127.0.0.1:8000, since every client uses your token; from another machine use ssh -L", *listen)
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
		return fmt.Errorf("creating the key of the address: %w", err)
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

// isThisMachine reports whether host names this machine in a way that no name server can change.
func isThisMachine(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// farewell is the time limit for pending answers when the proxy stops.
const farewell = time.Second

// serve listens until ctx ends.
func (p *proxy) serve(ctx context.Context, sh *shell, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen %s: %w", listen, err)
	}
	if !isLoopback(l.Addr().String()) { // localhost is resolved by the hosts file
		return errors.Join(fmt.Errorf("-listen %s: resolves to %s, which other machines can reach", listen, l.Addr()), l.Close())
	}
	p.named(l.Addr())
	if err := p.try(ctx); err != nil {
		fmt.Fprintf(sh.err, "%s ui: %v; serving anyway\n", Name, err)
	}
	fmt.Fprintf(sh.out, "%s\n", p.address(l.Addr()))
	fmt.Fprintln(sh.err, "open this address in a browser; it contains a secret key. Stop with Ctrl-C.")
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
		_ = server.Close() // cuts off answers that are still pending
	}
	<-ended
	return nil
}

// proxy forwards the page's requests to the service and adds the token. Safe for concurrent use.
type proxy struct {
	base   string
	key    string // part of the address
	cookie string // name of the cookie that holds the key
	tokens *tokens
	pass   *httputil.ReverseProxy
}

// heldElsewhere is the header that asks the service not to write the token into the page.
const heldElsewhere = "Offload-Token-Held"

func newProxy(base, key string, tokens *tokens) (*proxy, error) {
	target, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("-url %q: %w", base, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = apiTimeout
	p := &proxy{base: base, key: key, tokens: tokens}
	p.pass = &httputil.ReverseProxy{
		Transport:      transport,
		Rewrite:        func(r *httputil.ProxyRequest) { rewrite(r, target) },
		ModifyResponse: func(r *http.Response) error { return told(r) },
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { p.fail(w, r, err) },
	}
	return p, nil
}

// rewrite builds the request for the service. Only the path and the query of the browser's request are kept.
func rewrite(r *httputil.ProxyRequest, target *url.URL) {
	authorization := r.In.Context().Value(tokenKey{}).(string)
	r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, ""
	r.SetURL(target)
	r.Out.Header = http.Header{heldElsewhere: {"yes"}, "Accept-Encoding": r.In.Header["Accept-Encoding"]}
	if authorization != "" {
		r.Out.Header.Set("Authorization", "Bearer "+authorization)
	}
}

// tokenKey is the context key of a request's token.
type tokenKey struct{}

// acknowledgePath is the only POST route of the page.
const acknowledgePath = apiBase + "/drops/acknowledge"

// named puts the port into the cookie's name: a browser shares one cookie jar among all ports of a host.
func (p *proxy) named(a net.Addr) {
	_, port, _ := net.SplitHostPort(a.String())
	p.cookie = "offload-ui-" + port
}

// address is the URL for the browser.
func (p *proxy) address(a net.Addr) string { return "http://" + a.String() + "/?key=" + p.key }

// try sends one request to the service, so that a mistake shows at the start and not in the browser.
func (p *proxy) try(ctx context.Context) error {
	token, err := p.tokens.get()
	if err != nil {
		return err
	}
	c := &client{base: p.base, token: token, http: &http.Client{Timeout: apiTimeout}}
	return c.get(ctx, "/ui/data?since=0", &struct{}{})
}

// ServeHTTP serves only a browser with the key, and forwards only the page's requests.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case !isThisMachine(hostname(r.Host)):
		refuse(w, r, http.StatusForbidden, "not an address of this machine: "+r.Host) // another site's name can resolve to this address
	case isForeign(r):
		refuse(w, r, http.StatusForbidden, "the request comes from another site; type or paste the address")
	case r.Method != http.MethodGet && (r.Method != http.MethodPost || r.URL.Path != acknowledgePath):
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, r, http.StatusMethodNotAllowed, "only GET is forwarded, and POST "+acknowledgePath)
	case r.URL.Path == "/" && p.isKey(r.URL.Query().Get("key")):
		p.admit(w)
	case !p.isAdmitted(r):
		refuse(w, r, http.StatusUnauthorized, "open the address printed by offloadctl ui, with its key")
	case r.URL.Path == "/":
		toPage(w)
	case !strings.HasPrefix(r.URL.Path, apiBase+"/") || path.Clean(r.URL.Path) != r.URL.Path:
		refuse(w, r, http.StatusNotFound, "only paths below "+apiBase+"/ are forwarded")
	default:
		p.forward(w, r)
	}
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// isForeign reports whether the page of another origin made the request: another site, or another port of this machine.
func isForeign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	origin := r.Header.Get("Origin")
	return origin != "" && origin != "http://"+r.Host
}

func (p *proxy) isKey(key string) bool {
	return subtle.ConstantTimeCompare([]byte(key), []byte(p.key)) == 1
}

func (p *proxy) isAdmitted(r *http.Request) bool {
	c, err := r.Cookie(p.cookie)
	return err == nil && p.isKey(c.Value)
}

// admit sets the key as a cookie and redirects to the address without it.
func (p *proxy) admit(w http.ResponseWriter) {
	// Not Secure: the connection is plain http and never leaves the machine.
	http.SetCookie(w, &http.Cookie{Name: p.cookie, Value: p.key, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}) // #nosec G124 -- as above
	toPage(w)
}

func toPage(w http.ResponseWriter) {
	w.Header().Set("Location", apiBase+"/ui")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

func (p *proxy) forward(w http.ResponseWriter, r *http.Request) {
	token, err := p.tokens.get()
	if err != nil {
		p.fail(w, r, tokenProblem{err})
		return
	}
	p.pass.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
}

// tokenProblem is an error of the token: missing or rejected by the service.
type tokenProblem struct{ error }

// errRefused means that the service rejected the token.
var errRefused = tokenProblem{errors.New("the service rejected the token, which has most likely expired; write a new JWT " +
	"into the file of -token-file, or restart offloadctl ui with one")}

// told filters the answers that concern the proxy and not the page: a rejected token and cookies.
func told(r *http.Response) error {
	r.Header.Del("Set-Cookie")
	if r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
		return errRefused
	}
	return nil
}

// fail answers a request that the service did not answer. A browser reloads the page every 5 s.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Refresh", "5")
	if problem := (tokenProblem{}); errors.As(err, &problem) {
		refuse(w, r, http.StatusUnauthorized, problem.Error())
		return
	}
	c := &client{http: &http.Client{Timeout: apiTimeout}}
	refuse(w, r, http.StatusBadGateway, fmt.Sprintf("requesting %s: %v", p.base, c.unreachable(err)))
}

// refuse sends an error: as text to a page load, as JSON to any other request.
func refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	if r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprintln(w, why) // #nosec G705 -- plain text; nosniff keeps the browser from rendering it
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v3", "statusCode": code, "message": why})
}
