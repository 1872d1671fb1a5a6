package ctl

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slow is the timeout error of a connection.
type slow struct{ error }

func (slow) Timeout() bool   { return true }
func (slow) Temporary() bool { return false }

func TestUnreachableSaysWhatToDo(t *testing.T) {
	c := &client{http: &http.Client{Timeout: 3 * time.Second}}
	for name, row := range map[string]struct {
		err  error
		says string
	}{
		"nothing listens":    {syscall.ECONNREFUSED, "connection refused; is the service running?"},
		"no such host":       {&net.DNSError{Err: "no such host", Name: "x"}, "unknown host"},
		"a slow name server": {&net.DNSError{Err: "timeout", IsTimeout: true}, "unknown host"},
		"the deadline":       {context.DeadlineExceeded, "no answer within 3s"},
		"a slow connection":  {slow{errors.New("slow")}, "no answer within 3s"},
		"anything else":      {errors.New("strange"), "strange"},
	} {
		for _, err := range []error{row.err, &url.Error{Op: "Get", URL: "http://secret", Err: row.err}} {
			got := c.unreachable(err)
			require.ErrorIs(t, got, row.err, name)
			require.True(t, strings.HasPrefix(got.Error(), row.says), "%s: %v", name, got)
			require.NotContains(t, got.Error(), "http://secret", name)
		}
	}
}
