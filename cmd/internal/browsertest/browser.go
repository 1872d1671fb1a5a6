// Package browsertest drives a headless Chromium in tests.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Browser is a headless Chromium on one page. It collects complaints: exceptions, and violations of the Content-Security-Policy.
type Browser struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

const chromium = "/usr/bin/chromium"

// New starts Chromium, or skips the test if Chromium is not installed; CI rejects skipped tests.
func New(t testing.TB) *Browser {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		if os.Getenv("CI") == "true" {
			require.NoError(t, err, "CI has to install chromium")
		}
		t.Skip("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.UserDataDir(profile(t)),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {})) // discards events newer than the library
	t.Cleanup(cancel)
	b := &Browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.receive)
	require.NoError(t, chromedp.Run(ctx), "starting Chromium") // the browser lives as long as the context of the first run
	b.Do(runtime.Enable(), cdplog.Enable())
	return b
}

// profile creates the browser's own folder; its helpers may still write to it shortly after its exit.
func profile(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium")
	require.NoError(t, err)
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("a folder stays behind: %v", err)
	})
	return dir
}

func (b *Browser) receive(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Error())
	case *cdplog.EventEntryAdded:
		if e.Entry.Source != cdplog.SourceNetwork { // an unreachable service is not a fault of the page
			b.complaints = append(b.complaints, e.Entry.Text)
		}
	}
}

// Do runs actions within a minute, for slow machines.
func (b *Browser) Do(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	require.NoError(b.t, chromedp.Run(ctx, actions...))
}

// Eval returns the value of an expression in the page.
func Eval[T any](b *Browser, expression string) (value T) {
	b.t.Helper()
	b.Do(chromedp.Evaluate(expression, &value))
	return value
}

// Await waits until an expression is true in the page.
func (b *Browser) Await(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); !Eval[bool](b, expression); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Shoot("failed")
			require.Fail(b.t, "did not happen within a minute", "%s\n%s\n%s", what, expression, Eval[string](b, "document.body.innerText"))
		}
	}
}

// Run evaluates a statement.
func (b *Browser) Run(statement string) {
	b.t.Helper()
	b.Do(chromedp.Evaluate(statement+"; undefined", nil))
}

// Click moves the mouse to the middle of an element and clicks there, so that an element above it would receive the click.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	at := Eval[[]float64](b, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({ block: "center", behavior: "instant" });
		const box = e.getBoundingClientRect();
		return [box.left + box.width / 2, box.top + box.height / 2];
	})()`, selector))
	b.Do(chromedp.MouseClickXY(at[0], at[1]))
}

// Shoot saves a picture of the whole page in the folder OFFLOAD_SCREENSHOTS, if that is set.
func (b *Browser) Shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("OFFLOAD_SCREENSHOTS")
	if dir == "" {
		return
	}
	require.NoError(b.t, os.MkdirAll(dir, 0o750)) // #nosec G703 -- the folder is set by the user of the tests
	var png []byte
	b.Do(chromedp.FullScreenshot(&png, 100))
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)) // #nosec G703 -- as above
}

// Look sets the size of the window and the preferred colour scheme.
func (b *Browser) Look(width int64, scheme string) {
	b.t.Helper()
	b.Do(chromedp.EmulateViewport(width, 1000),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Sleep(100*time.Millisecond)) // lets a frame be painted for pictures; no test waits for it
}

// Visit is the browser's measurement of one page load; times are in ms since its start.
type Visit struct {
	FirstByte, Paint float64
	Bytes            float64 // of the document, headers included
	Requests         int     // for the document and its resources, without requests of its script
}

// Load opens an address from an empty page, so that no state is left, and measures the load.
func (b *Browser) Load(address string) (v Visit) {
	b.t.Helper()
	b.Do(chromedp.Navigate("about:blank"), chromedp.Navigate(address))
	b.Await("the page is painted", "performance.getEntriesByName('first-contentful-paint').length === 1")
	return Eval[Visit](b, `(() => {
		const [page] = performance.getEntriesByType("navigation"), [paint] = performance.getEntriesByName("first-contentful-paint");
		const fetched = performance.getEntriesByType("resource").filter(r => r.initiatorType !== "fetch");
		return { FirstByte: page.responseStart, Paint: paint.startTime, Bytes: page.transferSize, Requests: 1 + fetched.length };
	})()`)
}

// Complaints returns the errors of the page so far.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.complaints...)
}

// Inaccessible lists elements without a name for screen readers, and text with too little contrast.
func (b *Browser) Inaccessible() []string {
	b.t.Helper()
	return Eval[[]string](b, accessibility)
}

// accessibility is the script of Inaccessible.
const accessibility = `(() => {
	const found = [];
	const seen = e => e.getClientRects().length > 0 && !e.closest('.sr, .skip, [aria-hidden=true], dialog:not([open])');
	for (const e of document.querySelectorAll('button, select, input, svg[role=img], [role=region], section'))
		if (seen(e) && !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim() && e.tagName === 'BUTTON' || e.labels && e.labels.length))
			found.push('without a name: ' + e.outerHTML.slice(0, 80));
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); if (c.startsWith('color(')) for (let i = 0; i < 3; i++) m[i] *= 255; return [m[0], m[1], m[2], m.length > 3 ? m[3] : 1]; };
	const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
	const ground = e => { if (!e) return [255, 255, 255]; const c = parse(getComputedStyle(e).backgroundColor); return c[3] === 1 ? c.slice(0, 3) : over(c, ground(e.parentElement)); };
	const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n = words.nextNode(); n; n = words.nextNode()) {
		const e = n.parentElement;
		if (!n.data.trim() || !seen(e) || e.closest('script, style, option')) continue;
		const back = ground(e), style = getComputedStyle(e), front = over(parse(e.closest('svg') ? style.fill : style.color), back);
		const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		if (ratio < (parseFloat(style.fontSize) >= 18.6 ? 3 : 4.5)) found.push('too faint, ' + ratio.toFixed(2) + ': ' + n.data.trim().slice(0, 40));
	}
	return [...new Set(found)];
})()`
