package bench

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

const (
	node       = "bench"
	serviceKey = "app-offload" // EdgeX's name of the service, and a level of its results' topics
)

//go:embed res/common.yaml
var commonYAML string

// service is the whole app-offload as a user runs it.
type service struct {
	*stack.Process
	api string
}

// startService starts app-offload with a broker as MessageBus and one as the link to the cloud, possibly the same, and returns when it is ready.
func startService(ctx context.Context, o Options, c Case, broker, link, dir string, log io.Writer) (*service, error) {
	addr, err := stack.FreeAddr()
	if err != nil {
		return nil, err
	}
	common := filepath.Join(dir, "common.yaml")
	busHost, busPort, err := net.SplitHostPort(broker)
	if err != nil {
		return nil, fmt.Errorf("the broker's address %q: %w", broker, err)
	}
	if err := os.WriteFile(common, fmt.Appendf(nil, commonYAML, busHost, busPort), 0o600); err != nil {
		return nil, fmt.Errorf("writing the common configuration: %w", err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	env := append([]string{
		"EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_HOST=" + host, "SERVICE_PORT=" + port, "WRITABLE_LOGLEVEL=WARN",
		"OFFLOAD_NODE=" + node, "OFFLOAD_SPOOL_DIRECTORY=" + filepath.Join(dir, "spool"), "OFFLOAD_EXPORT_BROKER=tcp://" + link,
		fmt.Sprintf("OFFLOAD_WRITABLE_BATCH_MAXCOUNT=%d", batchSize), "OFFLOAD_SEAL_FORM=" + o.Form,
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=" + c.Policy, "OFFLOAD_EXPORT_CONFIRM=" + c.Confirm,
	}, o.Env...)
	if link != broker {
		env = append(env, "OFFLOAD_EXPORT_BACKOFFMAX=500ms") // the bench measures the drain, not the wait before it
	}
	p, err := stack.StartProgram("app-offload", log, env, filepath.Join(o.Bin, "app-offload"), "-cc", common, "-cd", o.Res)
	if err != nil {
		return nil, err
	}
	s := &service{Process: p, api: "http://" + addr + "/api/v3/offload"}
	if err := s.awaitReady(ctx); err != nil {
		_ = s.stop() // the reason why it was not ready says more
		return nil, err
	}
	return s, nil
}

func (s *service) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for stack.Get(ctx, s.api+"/ready", nil) != nil {
		select {
		case <-s.Done():
			return s.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s/ready did not succeed within a minute; see the log", s.api)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (s *service) counts(ctx context.Context) (stack.Counts, error) {
	var st stack.Status
	return st.Counts, stack.Get(ctx, s.api+"/status", &st)
}

func (s *service) stop() error { return s.Stop(10 * time.Second) }
