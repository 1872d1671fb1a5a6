package main

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/browsertest"
)

// feed continuously publishes events of several devices, and sometimes a malformed message.
func (e *edge) feed(t testing.TB) {
	t.Helper()
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				if e.client.IsConnectionOpen() {
					e.publishOf(n)
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); running.Wait() })
}

// publishOf publishes one of several kinds of events on the bus, without waiting for the broker.
func (e *edge) publishOf(n int) {
	device := []string{"press-1", "press-2", "oven-north", "conveyor-belt-17"}[n%4]
	value := fmt.Sprintf("%.2f", 20+5*math.Sin(float64(n)/50))
	e.client.Publish("edgex/events/device/svc/P/"+device+"/S", 1, false, enveloped(of(n, device, value)))
	if n%200 == 100 {
		e.client.Publish("edgex/events/device/svc/P/"+device+"/S", 1, false, enveloped([]byte(`{"apiVersion":"v3","event":{}}`)))
	}
}

// The page on the running system: its numbers are real and change, a decision explains itself, it works at each width and in both colour schemes,
// with keyboard and screen reader, and it reports when link or service are down and back.
func TestPage(t *testing.T) {
	t.Parallel()
	b := browsertest.New(t)
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=random", "OFFLOAD_LOCAL_OPERATORS=summary window=1s")
	e.start()
	e.feed(t)
	e.await("some is done", func() bool { return e.counts().Local > 20 && e.counts().Receipted > 20 })
	b.Look(1600, "light")
	b.Do(chromedp.Navigate(e.api + "/ui"))
	pageShowsNumbers(t, b)
	pageExplains(t, b, e)
	pageServesTheKeyboard(t, b)
	pageFilters(t, b)
	pageHoldsAtEachWidth(t, b)
	pageTellsWhatIsGone(t, b, e)
	require.Empty(t, b.Complaints())
}

func pageShowsNumbers(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	const rate, accepted = "document.querySelector('#tile-events .big').textContent", "document.querySelector('#tile-account .sub').textContent"
	require.Contains(t, browsertest.Eval[string](b, accepted), "receipted", "the first paint has numbers")
	before := browsertest.Eval[string](b, accepted)
	b.Await("the account goes on", accepted+" !== "+fmt.Sprintf("%q", before))
	b.Await("events flow", "parseFloat("+rate+") > 1")
	b.Await("it balances", "document.querySelector('#tile-account .big').textContent.includes('✓')")
	b.Await("the link is up", "document.querySelector('#tile-link .big').textContent.includes('Up')")
	b.Await("charts have lines", "[...document.querySelectorAll('.chart')].slice(0, 3).every(c => [...c.querySelectorAll('path')].some(p => p.getAttribute('d').length > 40))")
	b.Await("a malformed message is shown", "document.getElementById('quarantine').textContent.includes('edgex/events')")
	b.Await("all is well", "document.getElementById('state-text').textContent === 'All is well'")
	b.Do(chromedp.Reload())
	b.Await("it has loaded again", "performance.getEntriesByName('first-contentful-paint').length === 1 && document.querySelectorAll('#list tr').length > 3")
	t.Logf("first paint after %.0f ms", browsertest.Eval[float64](b, "performance.getEntriesByName('first-contentful-paint')[0].startTime"))
}

// pageExplains follows a decision from the list to its explanation, which is the API's.
func pageExplains(t *testing.T, b *browsertest.Browser, e *edge) {
	t.Helper()
	b.Click("#hold")
	b.Click("#list tr:nth-child(3) .open")
	b.Await("the explanation opens", "document.getElementById('detail').open && !!document.querySelector('.sentence')")
	sentence := browsertest.Eval[string](b, "document.querySelector('.sentence').textContent")
	var answer struct {
		Decision struct{ Explanation string }
	}
	require.Equal(t, http.StatusOK, e.get("/decisions/"+browsertest.Eval[string](b, "location.hash.replace('#decision-', '')"), &answer))
	require.NotEmpty(t, sentence)
	require.Contains(t, answer.Decision.Explanation, strings.TrimSuffix(sentence, "."), "the outcome may have come in between")
	for _, want := range []string{"Local, predicted", "Cloud, predicted", "Complexity", "Local queue", "Propensity"} {
		require.Contains(t, browsertest.Eval[string](b, "document.getElementById('detail').innerText"), want)
	}
	b.Shoot("decision")
	b.Do(chromedp.KeyEvent(kb.Escape))
	b.Await("Esc closes it", "!document.getElementById('detail').open && location.hash === ''")
	b.Click("#hold")
}

func pageServesTheKeyboard(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	b.Run("document.activeElement.blur(); window.scrollTo(0, 0); document.querySelector('.skip').focus()")
	b.Do(chromedp.KeyEvent(kb.Enter))
	b.Await("the skip link leads to the decisions", "document.activeElement.id === 'decisions'")
	for range 6 { // target, class, device, hold, the table, the first decision
		b.Do(chromedp.KeyEvent(kb.Tab))
	}
	require.Equal(t, "open", browsertest.Eval[string](b, "document.activeElement.className"))
	b.Do(chromedp.KeyEvent(kb.Enter))
	b.Await("Enter opens the decision", "document.getElementById('detail').open")
	b.Run("window.polled = performance.getEntriesByType('resource').length")
	b.Await("the list stands still beneath it", "performance.getEntriesByType('resource').length > window.polled + 3")
	b.Do(chromedp.KeyEvent(kb.Escape))
	b.Await("and the focus comes back to it", "!document.getElementById('detail').open && document.activeElement.className === 'open'")
	b.Run("window.newest = document.querySelector('#list tr').dataset.id; window.chosen = document.activeElement.closest('tr').dataset.id")
	b.Await("the list goes on", "document.querySelector('#list tr').dataset.id !== window.newest && document.getElementById('held').textContent === ''")
	require.True(t, browsertest.Eval[bool](b, "document.activeElement.className === 'open' && document.activeElement.closest('tr').dataset.id === window.chosen"), "and the focus stays where it was")
	b.Run("document.getElementById('hold').click()")
	b.Await("a list that stands still says so", "document.getElementById('held').textContent === 'Held'")
	b.Run("document.getElementById('hold').click()")
	b.Run("document.querySelector('svg.plot').focus()")
	b.Do(chromedp.KeyEvent(kb.ArrowLeft))
	b.Await("arrows move the cursor", "/\\d\\d:\\d\\d:\\d\\d: local /.test(document.getElementById('spoken').textContent)")
	b.Do(chromedp.KeyEvent(kb.Escape))
	b.Await("Esc takes it away", "document.getElementById('cursor').textContent === ''")
	b.Run("document.activeElement.blur()")
}

func pageFilters(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	targets := "[...document.querySelectorAll('#list .pill')].map(p => p.textContent)"
	b.Await("both targets are listed", "new Set("+targets+").size === 2")
	choose := "(e => { e.value = %q; e.dispatchEvent(new Event('input', { bubbles: true })); })(document.querySelector('select[name=target]'))"
	b.Run(fmt.Sprintf(choose, "cloud"))
	b.Await("the cloud's alone are listed", targets+".length > 0 && "+targets+".every(t => t === 'cloud')")
	b.Run(fmt.Sprintf(choose, ""))
	b.Await("both targets are listed again", "new Set("+targets+").size === 2")
	name := "(e => { e.value = %q; e.dispatchEvent(new Event('input', { bubbles: true })); })(document.querySelector('input[name=device]'))"
	devices := "[...document.querySelectorAll('#list tr td:nth-child(3)')].map(d => d.textContent)"
	b.Run(fmt.Sprintf(name, "Press"))
	b.Await("a part of a device's name is enough", devices+".length > 3 && new Set("+devices+").size === 2 && "+devices+".every(d => d.startsWith('press-'))")
	b.Run(fmt.Sprintf(name, ""))
	b.Await("all devices are listed again", "new Set("+devices+").size === 4")
}

func pageHoldsAtEachWidth(t *testing.T, b *browsertest.Browser) {
	t.Helper()
	for _, width := range []int64{400, 1600} {
		for _, scheme := range []string{"light", "dark"} {
			b.Look(width, scheme)
			b.Shoot(fmt.Sprintf("page-%d-%s", width, scheme))
			require.LessOrEqual(t, browsertest.Eval[int](b, "document.documentElement.scrollWidth"), int(width), "nothing sticks out at %d px", width)
			require.Empty(t, b.Inaccessible(), "at %d px, %s", width, scheme)
		}
	}
	b.Do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}))
	b.Await("nothing moves for those who want it still", "document.getAnimations().length === 0")
	b.Look(1600, "light")
}

// pageTellsWhatIsGone stops and restarts the service, then the broker, which is bus and cloud in one.
func pageTellsWhatIsGone(t *testing.T, b *browsertest.Browser, e *edge) {
	t.Helper()
	e.kill()
	b.Await("the service is gone, and since when", "/Last answer at \\d\\d:\\d\\d:\\d\\d/.test(document.getElementById('banners').textContent) && document.getElementById('state-text').textContent === 'No connection'")
	b.Shoot("service-gone")
	e.start()
	b.Await("it is back", "document.getElementById('state-text').textContent === 'All is well' && !document.body.classList.contains('stale')")
	b.Await("the coming of the link is in the list of changes", "document.getElementById('changes').textContent.includes('the link to the cloud is up')")
	e.endBroker()
	b.Await("the link is down", "document.querySelector('#tile-link .big').textContent.includes('Down')")
	b.Await("a banner says so", "document.getElementById('banners').textContent.includes('Link down')")
	b.Await("so does the list of changes", "document.getElementById('changes').textContent.includes('the link to the cloud is down')")
	b.Shoot("link-down")
}
