package consume

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"app-offload/functions/seal"
)

// HTTPConfig configures the reception of messages and the posting of receipts over HTTP.
type HTTPConfig struct {
	Address string // address to listen at
	Replies string // URL for receipts; {node} is replaced by the node's name
	Max     int64  // maximum bytes of a message; 0 means the maximum of KubeEdge's router
	Reading int64  // maximum bytes of all messages being read; 0 means 64 MiB
	Log     *slog.Logger
}

// HTTP is a Transport without a broker, for routers such as KubeEdge's that turn an MQTT message at the edge into a POST in the cloud and back: POST
// /offload/v1/{node}/batch/{class} carries the message of that topic, and receipts are posted to Replies + "/{node}/receipt". No broker stores
// messages: if a batch is refused or lost, the gateway misses the receipt and sends the batch again.
type HTTP struct {
	cfg    HTTPConfig
	client http.Client
	server http.Server
	up     atomic.Bool
	addr   net.Addr
	done   sync.WaitGroup
	room   *semaphore.Weighted
}

// postMax is the maximum message size of KubeEdge's router.
const postMax = 12 << 20

// NewHTTP returns a transport; Start opens its listener.
func NewHTTP(cfg HTTPConfig) *HTTP {
	cfg.Max = cmp.Or(cfg.Max, postMax)
	cfg.Reading = max(cmp.Or(cfg.Reading, 64<<20), cfg.Max)
	return &HTTP{cfg: cfg, client: http.Client{Timeout: 10 * time.Second}, room: semaphore.NewWeighted(cfg.Reading)}
}

// Start listens. A failure is an error, since a wait would not help.
func (h *HTTP) Start(_ context.Context, deliver func(*Message) bool) error {
	listener, err := net.Listen("tcp", h.cfg.Address)
	if err != nil {
		return fmt.Errorf("listening for messages: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /"+seal.TopicRoot+"{rest...}", func(w http.ResponseWriter, r *http.Request) { h.receive(w, r, deliver) })
	h.server = http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute}
	h.addr = listener.Addr()
	h.up.Store(true)
	h.done.Go(func() {
		if err := h.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			h.up.Store(false)
			h.cfg.Log.Error("receiving stopped", "error", err)
		}
	})
	h.cfg.Log.Info("listening for messages", "address", h.addr)
	return nil
}

// receive answers 202 once the message is queued; only the receipt confirms that it is stored. It reads a message only when there is room for it, so
// many large posts use no more memory than a few.
func (h *HTTP) receive(w http.ResponseWriter, r *http.Request, deliver func(*Message) bool) {
	if r.ContentLength > h.cfg.Max {
		http.Error(w, fmt.Sprintf("the message of %d bytes exceeds -max-message-mib", r.ContentLength), http.StatusRequestEntityTooLarge)
		return
	}
	weight := r.ContentLength
	if weight < 0 {
		weight = h.cfg.Max
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if h.room.Acquire(ctx, weight) != nil {
		http.Error(w, "too many messages; the gateway will send it again", http.StatusServiceUnavailable)
		return
	}
	defer h.room.Release(weight)
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.Max))
	if err != nil {
		http.Error(w, "reading the message: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if !deliver(&Message{Topic: strings.TrimPrefix(r.URL.Path, "/"), Payload: payload, Ack: func() {}}) {
		http.Error(w, "the queue is full or the store fails; the gateway will send it again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// Publish posts each receipt. A failed post, such as to a removed node, does not affect the others. It ends with ctx.
func (h *HTTP) Publish(ctx context.Context, out []Outgoing) error {
	var errs []error
	for _, o := range out {
		if err := h.post(ctx, o); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil || len(errs) == errorsMax {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// errorsMax is the number of failed posts after which Publish gives up on the router.
const errorsMax = 10

// address returns the URL for a topic's messages, with each level of the topic as one segment of the path. A topic without a node, such as that of
// announcements, has no URL.
func (h *HTTP) address(topic string) (string, error) {
	below, ours := strings.CutPrefix(topic, seal.TopicRoot)
	node, kind, ok := strings.Cut(below, "/")
	if !ours || !ok {
		return "", nil
	}
	if node == "." || node == ".." {
		return "", fmt.Errorf("posting to node %q: the name means another folder in a URL; rename the node", node)
	}
	node = url.PathEscape(node)
	return strings.ReplaceAll(h.cfg.Replies, "{node}", node) + "/" + node + "/" + url.PathEscape(kind), nil
}

func (h *HTTP) post(ctx context.Context, o Outgoing) error {
	address, err := h.address(o.Topic)
	if address == "" {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(o.Payload))
	if err != nil {
		return fmt.Errorf("posting to %s: %w", address, err)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("posting to %s: %w", address, err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("posting to %s: %w", address, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("posting to %s: status %s", address, resp.Status)
	}
	return nil
}

// Redeliver does nothing: the gateway repeats batches that have no receipt.
func (*HTTP) Redeliver() {}

// Connected reports whether posts are accepted.
func (h *HTTP) Connected() bool { return h.up.Load() }

// Close accepts no more posts, and waits up to a second for pending ones.
func (h *HTTP) Close() {
	if !h.up.Swap(false) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if h.server.Shutdown(ctx) != nil {
		_ = h.server.Close()
	}
	h.done.Wait()
}

var _ Transport = (*HTTP)(nil)
