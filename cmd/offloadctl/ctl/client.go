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

// client asks a running service.
type client struct {
	base  string
	token string // never shown
	http  *http.Client
}

// apiFlags are the flags of every verb that asks the service.
type apiFlags struct{ url, token, tokenFile string }

// question is a verb that asks the service, which may print its answer as JSON.
type question struct {
	*flagSet
	api    apiFlags
	asJSON *bool
}

// asking begins the flags of a verb that asks the service.
func (sh *shell) asking(name, answer string) *question {
	q := &question{flagSet: sh.flags(name)}
	q.api.registerAddress(q.FlagSet)
	q.StringVar(&q.api.token, "token", "", "the `JWT` itself; other users of this machine can see it in the list of processes")
	q.asJSON = q.Bool("json", false, answer)
	return q
}

// ask gets the answer to a question into what into points at, or shows it as JSON, which ends the verb.
func (q *question) ask(ctx context.Context, method, path string, body, into any) (done bool, err error) {
	c, err := q.api.client(q.sh)
	if err == nil {
		err = c.answer(ctx, method, path, body, q.sh.out, *q.asJSON, into)
	}
	return err != nil || *q.asJSON, err
}

// answer gets the answer to a question, to show it as JSON or to decode it into what into points at.
func (c *client) answer(ctx context.Context, method, path string, body any, out io.Writer, asJSON bool, into any) error {
	var raw json.RawMessage
	if err := c.do(ctx, method, path, body, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the answer to %s is not what this version of offloadctl knows: %w", path, err)
	}
	if asJSON {
		return writeRaw(out, raw)
	}
	return nil
}

// writeRaw writes an answer of the API as it came, indented.
func writeRaw(w io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

// registerAddress leaves out the flag that shows the token to others, for verbs that run for long.
func (f *apiFlags) registerAddress(fs *flag.FlagSet) {
	fs.StringVar(&f.url, "url", "", "`address` where the service listens (default "+defaultURL+", or what SERVICE_HOST and SERVICE_PORT say)")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the JWT for secure mode, - for the standard input")
}

// address is where the service listens unless told otherwise: EdgeX's services listen at the name that SERVICE_HOST gives them, so
// that inside a container no service answers at localhost.
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

// base is the address before the service's own routes.
func (f *apiFlags) base(sh *shell) (string, error) {
	if f.url == "" {
		f.url = address(sh)
	}
	u, err := url.Parse(f.url)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || !isPort(u.Port()) {
		return "", fmt.Errorf("-url %q: must be like %s or https://gateway:8443/app-offload, without a user", withoutPasswords(f.url), defaultURL)
	}
	return strings.TrimSuffix(strings.TrimRight(f.url, "/"), apiBase), nil
}

// get asks for a path below the service's own routes and decodes the answer.
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
	req, err := http.NewRequestWithContext(ctx, method, where, &text) // #nosec G704 -- the operator says whom to ask
	if err != nil {
		return fmt.Errorf("asking %s: %w", where, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req) // #nosec G704 -- as above
	if err != nil {
		return fmt.Errorf("asking %s: %w", where, c.unreachable(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was read as far as it is wanted
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("asking %s: reading the answer: %w", where, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s: %w", where, refused(resp, raw))
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("asking %s: the answer is not what app-offload gives; is something else listening there? %w", where, err)
	}
	return nil
}

// unreachable says what to do about a request that got no answer.
func (c *client) unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the address, which is said already
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens there; is the service running? Check with `docker ps --filter name=app-offload` "+
			"or `systemctl status app-offload`, look into its log, or say with -url where it is (%w)", err)
	case errors.As(err, &dns):
		return fmt.Errorf("there is no host of that name; say with -url where the service is (%w)", err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("no answer within %v; the machine may be overloaded or a firewall in between (%w)", c.http.Timeout, err)
	}
	return err
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// refused is what the service said instead of an answer.
func refused(resp *http.Response, raw []byte) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: the service runs in secure mode and wants a valid JWT; give one by -token-file or OFFLOAD_TOKEN", resp.Status)
	}
	var problem struct {
		APIVersion string `json:"apiVersion"` // only EdgeX services say it
		Message    string `json:"message"`
	}
	if json.Unmarshal(raw, &problem) == nil && problem.APIVersion != "" && problem.Message != "" {
		return errors.New(problem.Message)
	}
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s: something listens there, but it is no app-offload; say with -url where it is", resp.Status)
	}
	return errors.New(resp.Status)
}

// isPort reports whether a port of an address, which may be left out, can be one.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}
