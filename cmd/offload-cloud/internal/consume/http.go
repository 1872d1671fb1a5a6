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

// HTTPConfig says where messages are posted to us, and where receipts are posted to.
type HTTPConfig struct {
	Address string // to listen at
	Replies string // URL of the receipts; {node} stands for the gateway's name
	Max     int64  // bytes of one message; 0 is as much as KubeEdge's router passes on
	Reading int64  // bytes of all messages that are being read; 0 is 64 MiB
	Log     *slog.Logger
}

// HTTP is a Transport without a broker, for routers that turn a message on an MQTT broker at the edge into a POST in the cloud and
// back, as KubeEdge's does: POST /offload/v1/{node}/batch/{class} brings what would come on that topic, and a receipt is posted
// to Replies + "/{node}/receipt". No broker keeps messages: a batch that is refused or lost on the way is sent again by the
// gateway, which misses the receipt.
type HTTP struct {
	cfg    HTTPConfig
	client http.Client
	server http.Server
	up     atomic.Bool
	addr   net.Addr
	done   sync.WaitGroup
	room   *semaphore.Weighted
}

// postMax is as much as KubeEdge's router passes on.
const postMax = 12 << 20

// NewHTTP prepares the listener; Start opens it.
func NewHTTP(cfg HTTPConfig) *HTTP {
	cfg.Max = cmp.Or(cfg.Max, postMax)
	cfg.Reading = max(cmp.Or(cfg.Reading, 64<<20), cfg.Max)
	return &HTTP{cfg: cfg, client: http.Client{Timeout: 10 * time.Second}, room: semaphore.NewWeighted(cfg.Reading)}
}

// Start listens. An address that cannot be had is an error, since it will not come by waiting.
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

// receive answers 202: the message is in the queue, and only the receipt says that it is stored. Nothing is read before there is room for
// it, so many large posts at once take no more memory than a few.
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
		http.Error(w, "too many messages at once; the gateway will send it again", http.StatusServiceUnavailable)
		return
	}
	defer h.room.Release(weight)
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.Max))
	if err != nil {
		http.Error(w, "reading the message: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if !deliver(&Message{Topic: strings.TrimPrefix(r.URL.Path, "/"), Payload: payload, Ack: func() {}}) {
		http.Error(w, "no room now, or the store fails; the gateway will send it again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// Publish posts each receipt: one that is not taken, as for a node that is gone, harms no other. It ends with ctx.
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

// errorsMax is after how many posts that fail the router is taken for broken.
const errorsMax = 10

// address is where a message of a topic is posted to, with each level of the topic as one segment of the path. A topic that is no node's, as
// that of announcements, has no address.
func (h *HTTP) address(topic string) (string, error) {
	below, ours := strings.CutPrefix(topic, seal.TopicRoot)
	node, kind, ok := strings.Cut(below, "/")
	if !ours || !ok {
		return "", nil
	}
	if node == "." || node == ".." {
		return "", fmt.Errorf("posting to node %q: the name means another folder in a URL; name the node otherwise", node)
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
		return fmt.Errorf("posting to %s: it answers %s", address, resp.Status)
	}
	return nil
}

// Redeliver does nothing: the gateway repeats batches without a receipt.
func (*HTTP) Redeliver() {}

// Connected says whether posts are taken.
func (h *HTTP) Connected() bool { return h.up.Load() }

// Close takes no further posts, and waits a moment for those under way.
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
