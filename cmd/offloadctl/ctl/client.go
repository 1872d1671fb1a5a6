package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	defaultURL = "http://localhost:59740"
	apiBase    = "/api/v3/offload"
	maxAnswer  = 16 << 20 // bytes
	apiTimeout = 5 * time.Second
)

// client sends requests to a running service.
type client struct {
	base  string
	token string // never shown
	http  *http.Client
}

// apiFlags are the flags of every verb that calls the service.
type apiFlags struct{ url, token, tokenFile string }

// question holds the flags of a verb that calls the service and can print the answer as JSON.
type question struct {
	*flagSet
	api    apiFlags
	asJSON *bool
}

// asking defines the flags of a verb that calls the service.
func (sh *shell) asking(name, answer string) *question {
	q := &question{flagSet: sh.flags(name)}
	q.api.registerAddress(q.FlagSet)
	q.StringVar(&q.api.token, "token", "", "the `JWT` itself; visible to other users of this machine in the process list")
	q.asJSON = q.Bool("json", false, answer)
	return q
}

// ask decodes the answer to a request into the value that into points at, or prints it as JSON; the verb is then done.
func (q *question) ask(ctx context.Context, method, path string, body, into any) (done bool, err error) {
	c, err := q.api.client(q.sh)
	if err == nil {
		err = c.answer(ctx, method, path, body, q.sh.out, *q.asJSON, into)
	}
	return err != nil || *q.asJSON, err
}

// answer sends a request and decodes the answer into the value that into points at; with asJSON it prints the answer as well.
func (c *client) answer(ctx context.Context, method, path string, body any, out io.Writer, asJSON bool, into any) error {
	var raw json.RawMessage
	if err := c.do(ctx, method, path, body, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decoding the answer to %s, which may come from another version: %w", path, err)
	}
	if asJSON {
		return writeRaw(out, raw)
	}
	return nil
}

// writeRaw writes the API's answer unchanged but indented.
func writeRaw(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

// registerAddress defines the flags without -token, which long-running verbs omit because other users could read it in the process list.
func (f *apiFlags) registerAddress(fs *flag.FlagSet) {
	fs.StringVar(&f.url, "url", "", "`address` where the service listens (default "+defaultURL+", or from SERVICE_HOST and SERVICE_PORT)")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the JWT for secure mode, - for the standard input")
}

// address is the default address of the service. EdgeX's services listen at the name in SERVICE_HOST: inside a container no service answers at
// localhost.
func address(sh *shell) string {
	host, port := "localhost", "59740"
	if v, _ := sh.lookup("SERVICE_HOST"); v != "" {
		host = v
	}
	if v, _ := sh.lookup("SERVICE_PORT"); v != "" {
		port = v
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (f *apiFlags) client(sh *shell) (*client, error) {
	token, err := f.tokens(sh).get()
	if err != nil {
		return nil, err
	}
	base, err := f.base(sh)
	if err != nil {
		return nil, err
	}
	return &client{base: base, token: token, http: &http.Client{Timeout: apiTimeout}}, nil
}

// base returns the address without the prefix of the service's own routes.
func (f *apiFlags) base(sh *shell) (string, error) {
	if f.url == "" {
		f.url = address(sh)
	}
	u, err := url.Parse(f.url)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || !isPort(u.Port()) {
		return "", fmt.Errorf("-url %q: must be like %s or https://gateway:8443/app-offload, without user name and password", withoutPasswords(f.url), defaultURL)
	}
	return strings.TrimSuffix(strings.TrimRight(f.url, "/"), apiBase), nil
}

// get requests a path below the service's own routes and decodes the answer.
func (c *client) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, into)
}

func (c *client) do(ctx context.Context, method, path string, body, into any) error {
	where := c.base + apiBase + path
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, where, &text) // #nosec G704 -- the operator chooses the address
	if err != nil {
		return fmt.Errorf("requesting %s: %w", where, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req) // #nosec G704 -- as above
	if err != nil {
		return fmt.Errorf("requesting %s: %w", where, c.unreachable(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was read as far as needed
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("requesting %s: reading the answer: %w", where, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("requesting %s: %w", where, refused(resp, raw))
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("requesting %s: unexpected answer; is another program listening there? %w", where, err)
	}
	return nil
}

// unreachable adds advice to the error of a request that got no answer.
func (c *client) unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the address, which the caller's error contains
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connection refused; is the service running? Check with `docker ps --filter name=app-offload` "+
			"or `systemctl status app-offload`, read its log, or set its address with -url (%w)", err)
	case errors.As(err, &dns):
		return fmt.Errorf("unknown host; set the service's address with -url (%w)", err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("no answer within %v; the machine may be overloaded, or a firewall may block the connection (%w)", c.http.Timeout, err)
	}
	return err
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// refused converts an error response of the service.
func refused(resp *http.Response, raw []byte) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: the service runs in secure mode and requires a valid JWT; pass one by -token-file or OFFLOAD_TOKEN", resp.Status)
	}
	var problem struct {
		APIVersion string `json:"apiVersion"` // set by EdgeX services only
		Message    string `json:"message"`
	}
	if json.Unmarshal(raw, &problem) == nil && problem.APIVersion != "" && problem.Message != "" {
		return errors.New(problem.Message)
	}
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s: another program than app-offload listens there; set the service's address with -url", resp.Status)
	}
	return errors.New(resp.Status)
}

// isPort reports whether the port of an address is valid; it may be empty.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}
