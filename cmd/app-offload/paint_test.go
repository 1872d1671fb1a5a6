package main

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/browsertest"
)

// BenchmarkPage loads the page of a running service repeatedly, like an occasional user, while events arrive. It reports the median and the slowest
// time to the first byte and to the first paint, which has the current numbers, and the bytes of the whole page.
func BenchmarkPage(b *testing.B) {
	browser := browsertest.New(b)
	e := newEdge(b, "OFFLOAD_WRITABLE_POLICY_DEFAULT=random", "OFFLOAD_LOCAL_OPERATORS=summary window=1s")
	e.start()
	e.feed(b)
	e.await("some is done", func() bool { return e.counts().Local > 20 && e.counts().Receipted > 20 })
	browser.Look(1600, "light")
	browser.Do(chromedp.Navigate(e.api + "/ui"))
	var first, paint []float64
	var size float64
	for b.Loop() {
		v := browser.Load(e.api + "/ui")
		require.Equal(b, 1, v.Requests, "the page is one document")
		first, paint, size = append(first, v.FirstByte), append(paint, v.Paint), max(size, v.Bytes)
	}
	slices.Sort(first)
	slices.Sort(paint)
	b.ReportMetric(0, "ns/op") // of loading and asking: it says nothing
	b.ReportMetric(first[len(first)/2], "ms/first-byte")
	b.ReportMetric(paint[len(paint)/2], "ms/paint")
	b.ReportMetric(paint[len(paint)-1], "ms/slowest-paint")
	b.ReportMetric(size, "page-bytes")
}
