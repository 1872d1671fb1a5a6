package consume

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/functions/seal"
)

// A posted batch is stored, and its receipt is posted to the gateway's address.
func TestPostsAreReceipted(t *testing.T) {
	type post struct {
		path string
		body []byte
	}
	posts := make(chan post, 8)
	router := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- post{r.URL.Path, body}
	}))
	defer router.Close()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 100, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
	h := NewHTTP(HTTPConfig{Address: "127.0.0.1:0", Replies: router.URL + "/{node}/offload/receipts", Log: slog.New(slog.DiscardHandler)})
	c := &Consumer{Transport: h, Store: &shelf{}, Opener: seal.NewOpener(nil, seal.Limits{}), Sealer: sealer, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	<-ready
	require.True(t, h.Connected())

	address := "http://" + h.addr.String() + "/"
	resp, err := http.Post(address+topic, "application/json", bytes.NewReader(edge.Batch(t, 1, 1, 2)))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	select {
	case p := <-posts:
		require.Equal(t, "/n1/offload/receipts/n1/receipt", p.path)
		receipt, err := seal.NewOpener(nil, seal.Limits{}).OpenReceipt(p.body)
		require.NoError(t, err)
		require.Len(t, receipt.Safe, 2)
	case <-time.After(time.Minute):
		require.Fail(t, "no receipt")
	}
	for path, code := range map[string]int{"elsewhere": http.StatusNotFound, topic: http.StatusRequestEntityTooLarge} {
		resp, err := http.Post(address+path, "application/json", io.LimitReader(zeros{}, postMax+1))
		if err != nil { // the answer may arrive before the whole post was sent
			continue
		}
		require.NoError(t, resp.Body.Close())
		require.Equal(t, code, resp.StatusCode, path)
	}
	cancel()
	require.NoError(t, <-ended)
	require.False(t, h.Connected())
	require.Error(t, NewHTTP(HTTPConfig{Address: "256.0.0.1:1"}).Start(t.Context(), nil), "an address that cannot exist")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A router that rejects a receipt is an error: the consumer counts it, and the gateway sends the batch again.
func TestRefusedReceiptIsAnError(t *testing.T) {
	router := httptest.NewServer(http.NotFoundHandler())
	defer router.Close()
	h := NewHTTP(HTTPConfig{Replies: router.URL})
	require.ErrorContains(t, h.Publish(t.Context(), []Outgoing{{"offload/v1/n1/receipt", []byte("{}")}}), "404")
}
