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
	listen := fs.String("listen", "127.0.0.1:0", "where to serve the page: `host:port` of this machine alone; port 0 is any free one")
	if err := fs.parseOnly(args, "ui takes no arguments"); err != nil {
		return err
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
	return host == "localhost" || net.ParseIP(host).IsLoopback()
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

// proxy passes what the page asks for on to the service, with the token. Safe for concurrent use.
type proxy struct {
	base   string
	key    string // of the address
	cookie string // the name under which the browser keeps it
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

// rewrite makes the request that the service sees: of the browser's own nothing but what it asks for.
func rewrite(r *httputil.ProxyRequest, target *url.URL) {
	authorization := r.In.Context().Value(tokenKey{}).(string)
	r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, ""
	r.SetURL(target)
	r.Out.Header = http.Header{heldElsewhere: {"yes"}, "Accept-Encoding": r.In.Header["Accept-Encoding"]}
	if authorization != "" {
		r.Out.Header.Set("Authorization", "Bearer "+authorization)
	}
}

// tokenKey is where a request has the token that it is to take along.
type tokenKey struct{}

// acknowledgePath is the only thing that the page does.
const acknowledgePath = apiBase + "/drops/acknowledge"

// named takes the port into the cookie's name, as a browser keeps one jar for all ports of a host.
func (p *proxy) named(a net.Addr) {
	_, port, _ := net.SplitHostPort(a.String())
	p.cookie = "offload-ui-" + port
}

// address is what the user opens.
func (p *proxy) address(a net.Addr) string { return "http://" + a.String() + "/?key=" + p.key }

// try asks the service once, so that a mistake is told at the start and not in the browser.
func (p *proxy) try(ctx context.Context) error {
	token, err := p.tokens.get()
	if err != nil {
		return err
	}
	c := &client{base: p.base, token: token, http: &http.Client{Timeout: apiTimeout}}
	return c.get(ctx, "/ui/data?since=0", &struct{}{})
}

// ServeHTTP serves only the browser that has the key, and passes on only the requests of the page.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case !isThisMachine(hostname(r.Host)):
		refuse(w, r, http.StatusForbidden, "this is no address of this machine: "+r.Host) // a site whose name leads here
	case isForeign(r):
		refuse(w, r, http.StatusForbidden, "another site has asked for this; type the address, or paste it")
	case r.Method != http.MethodGet && (r.Method != http.MethodPost || r.URL.Path != acknowledgePath):
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, r, http.StatusMethodNotAllowed, "only GET is passed on, and POST "+acknowledgePath)
	case r.URL.Path == "/" && p.isKey(r.URL.Query().Get("key")):
		p.admit(w)
	case !p.isAdmitted(r):
		refuse(w, r, http.StatusUnauthorized, "open the address that offloadctl ui has printed, with its key")
	case r.URL.Path == "/":
		toPage(w)
	case !strings.HasPrefix(r.URL.Path, apiBase+"/") || path.Clean(r.URL.Path) != r.URL.Path:
		refuse(w, r, http.StatusNotFound, "only what is below "+apiBase+"/ is passed on")
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

// isForeign reports whether a page of another origin made the browser ask: another site, or another port of this machine.
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

// admit gives the browser the key to keep, and takes it out of the address.
func (p *proxy) admit(w http.ResponseWriter) {
	// No Secure: what never leaves the machine is plain http.
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

// tokenProblem is why there is no token that the service takes.
type tokenProblem struct{ error }

// errRefused is the service's word on the token.
var errRefused = tokenProblem{errors.New("the service refuses the token, most likely because it has run out; write a fresh JWT " +
	"into the file of -token-file, or start offloadctl ui anew with one")}

// told takes the answers that are this proxy's matter and not the page's.
func told(r *http.Response) error {
	r.Header.Del("Set-Cookie")
	if r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
		return errRefused
	}
	return nil
}

// fail answers for a service that gave nothing. Who waits for the page is shown it once there is one.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Refresh", "5")
	if problem := (tokenProblem{}); errors.As(err, &problem) {
		refuse(w, r, http.StatusUnauthorized, problem.Error())
		return
	}
	c := &client{http: &http.Client{Timeout: apiTimeout}}
	refuse(w, r, http.StatusBadGateway, fmt.Sprintf("asking %s: %v", p.base, c.unreachable(err)))
}

// refuse says why not: in words to who looks at it, and else as the API does.
func refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	if r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprintln(w, why) // #nosec G705 -- as plain text, which nosniff makes the browser believe
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v3", "statusCode": code, "message": why})
}
