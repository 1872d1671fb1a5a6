package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/cmd/internal/golden"
)

// lines are some lines of each kind, as written by the verbs.
func lines() string {
	var b strings.Builder
	for i, p := range []string{"ppo", "cost", "oracle"} {
		regret := []float64{0.06, 0.1, 0}[i]
		fmt.Fprintf(&b, `{"policy":%q,"regret":%g,"regretCI95":[%g,%g],"meanCost":0.4,"meanT":1.5,"p95T":3,"p99T":9,"missShare":0.05,"cloudShare":0.3,`+
			`"bytesPerTask":20480,"joulesPerTask":0.7,"decisionMicros":2.5,"episodes":100,"exactEpisodes":99}`+"\n", p, regret, regret*0.8, regret*1.2)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		target := "local"
		if i%3 == 0 {
			target = "cloud"
		}
		fmt.Fprintf(&b, `{"episode":0,"task":%d,"policy":%q,"target":%q,"localTime":%.3f,"cloudTime":%.3f,"took":%.3f,"missed":%v}`+"\n",
			i, []string{"ppo", "cost"}[i%2], target, rng.ExpFloat64(), rng.ExpFloat64(), rng.ExpFloat64(), i%20 == 0)
	}
	for i := range 10 {
		fmt.Fprintf(&b, `{"steps":%d,"episodes":5,"return":%d,"policy":0.1}`+"\n", 1000*i, -300+10*i)
	}
	b.WriteString(`{"policy":"logged","records":500,"ips":{"mean":0.5,"ci95":[0.45,0.55]},"snips":0.5,"dr":{"mean":0.5,"ci95":[0.45,0.55]},"effectiveSamples":500}` + "\n")
	b.WriteString(`{"policy":"cost","records":500,"ips":{"mean":0.4,"ci95":[0.3,0.5]},"snips":0.4,"dr":{"mean":0.41,"ci95":[0.36,0.46]},"effectiveSamples":40,"unsupported":0.1,"warnings":["only 40 of <500>"]}` + "\n")
	return b.String()
}

func drawn(t require.TestingT, text string) string {
	var all Results
	require.NoError(t, all.Read(strings.NewReader(text)))
	var page strings.Builder
	require.NoError(t, all.Write(&page, "A title", []string{"board.jsonl"}))
	return page.String()
}

// structure is a page without its numbers: its sections, headings, figures and marks.
func structure(t *testing.T, page string) string {
	var b strings.Builder
	shown := regexp.MustCompile(`<(section id="[a-z]+"|h[123]|svg|footer)[^>]*>`)
	at := shown.FindAllStringIndex(page, -1)
	for i, place := range at {
		end := len(page)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		tag, inside := page[place[0]:place[1]], page[place[1]:end]
		switch {
		case strings.HasPrefix(tag, "<section"):
			fmt.Fprintf(&b, "%s\n", tag)
		case strings.HasPrefix(tag, "<svg"):
			label := regexp.MustCompile(`aria-label="([^"]*)"`).FindStringSubmatch(tag)
			require.Len(t, label, 2, "a figure without words for those who cannot see it")
			fmt.Fprintf(&b, "    figure %q:", label[1])
			for _, kind := range []string{"line", "rect", "circle", "path", "text"} {
				fmt.Fprintf(&b, " %d %s", strings.Count(inside, "<"+kind+" "), kind)
			}
			b.WriteByte('\n')
		case strings.HasPrefix(tag, "<h"):
			words := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(inside[:strings.Index(inside, "</h")], "")
			fmt.Fprintf(&b, "  %s\n", words)
		}
	}
	return b.String()
}

func TestPageHasItsStructure(t *testing.T) {
	page := drawn(t, lines())
	require.Equal(t, page, drawn(t, lines()), "equal input, equal page")
	golden.Require(t, "structure.golden", structure(t, page))
	require.Contains(t, page, "only 40 of &lt;500&gt;", "what comes from a file is text")
	require.NotContains(t, page, "ZgotmplZ", "the template took something for unsafe")
}

// A page is self-contained: a browser loads no external resource.
func TestPageLoadsNothing(t *testing.T) {
	page := drawn(t, lines())
	require.NotRegexp(t, `(?i)(https?:)?//[a-z]|<(script|link|img|iframe|object)|@import|url\(`, page)
	require.Contains(t, page, "prefers-color-scheme: dark")
}

// Every figure is well-formed, and no mark has an invalid position.
func TestFiguresAreWellFormed(t *testing.T) {
	page := drawn(t, lines())
	require.NotRegexp(t, `NaN|Inf\b|="-?Inf`, page)
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, svg)
		}
	}
}

// Each kind alone makes a page, and odd numbers break none.
func TestAnyInputMakesAPage(t *testing.T) {
	equal := `{"policy":"even","records":5,"ips":{"mean":0.5,"ci95":[0.5,0.5]},"snips":0.5,"dr":{"mean":0.5,"ci95":[0.5,0.5]},"effectiveSamples":5}`
	var pages []string
	for _, line := range append(strings.Split(strings.TrimSpace(lines()), "\n"), equal) {
		page := drawn(t, line)
		require.NotContains(t, page, "NaN", line)
		if text := structure(t, page); !slices.Contains(pages, text) {
			pages = append(pages, text)
		}
	}
	golden.Require(t, "alone.golden", strings.Join(pages, "\n"))
	rapid.Check(t, func(r *rapid.T) {
		text := fmt.Sprintf(`{"policy":%q,"took":%g,"localTime":%g,"cloudTime":%g,"target":"cloud"}`, rapid.StringMatching(`[a-z<&]{0,9}`).Draw(r, "name"),
			rapid.Float64Range(0, 1e12).Draw(r, "took"), rapid.Float64Range(0, 1e12).Draw(r, "local"), rapid.Float64Range(0, 1e12).Draw(r, "cloud"))
		text += fmt.Sprintf("\n"+`{"policy":"x","regret":%g,"regretCI95":[%g,%g]}`, rapid.Float64Range(-1, 1e6).Draw(r, "regret"),
			rapid.Float64Range(-1e6, 1e6).Draw(r, "low"), rapid.Float64Range(-1e6, 1e6).Draw(r, "high"))
		require.NotContains(r, drawn(r, text), "NaN")
	})
}

func TestWhatIsNoResult(t *testing.T) {
	var all Results
	require.ErrorContains(t, all.Read(strings.NewReader(`{"policy":"x","regret":1}`+"\n"+`{"hello":1}`)), "line 2: it is not a line of")
	require.ErrorContains(t, all.Read(strings.NewReader("{")), "line 1")
	for text, want := range map[string]string{
		"[]": "line 1: it is not a line of", `"text"`: "line 1: it is not a line of", "\n" + `{"regret":1e999}`: "line 2: Regret: number 1e999 is not",
		`{"took":"x"}`: "line 1: Took: string is not", "{}": "line 1: it is not a line of",
		"\n\n" + strings.Repeat("a", maxLine): "line 3 is longer than 1048576 bytes",
	} {
		require.ErrorContains(t, all.Read(strings.NewReader(text)), want)
	}
	var none Results
	require.ErrorIs(t, none.Write(io.Discard, "", nil), errEmpty)
}

// Policies have a fixed order, independent of the input order.
func TestTheOrderOfPolicies(t *testing.T) {
	var orders [2]string
	for i, names := range [][2]string{{"ppo", "cost"}, {"cost", "ppo"}} {
		var all Results
		for _, name := range names {
			require.NoError(t, all.Read(strings.NewReader(fmt.Sprintf(`{"policy":%q,"target":"local","localTime":1,"cloudTime":1,"took":1}`, name))))
		}
		require.NoError(t, all.tidy())
		orders[i] = all.lives[0].policy
	}
	require.Equal(t, orders[0], orders[1])
	for v, want := range map[float64]string{999.96: "1000", 1000: "1000", 12.34: "12.3", 10: "10", 9.876: "9.88", -1234: "-1234"} {
		require.Equal(t, want, short(v))
	}
}

func TestTicksAreRound(t *testing.T) {
	require.InDeltaSlice(t, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}, scale{0, 1, 0, 1, false}.ticks(), 1e-9)
	require.InDeltaSlice(t, []float64{0.5, 1, 2, 5, 10}, scale{0.4, 12, 0, 1, true}.ticks(), 1e-9)
	require.InDeltaSlice(t, []float64{0.1, 1, 10, 100}, scale{0.1, 100, 0, 1, true}.ticks(), 1e-9)
}

// A page never changes, down to the position of every mark. Look at both before you accept a change.
func TestAPageLooksAsItAlwaysDid(t *testing.T) {
	text := lines() + `{"policy":"edge","regret":5,"regretCI95":[-1,90],"meanCost":4,"meanT":1500,"p95T":0.003,"p99T":99.95,"missShare":1,"cloudShare":0,"bytesPerTask":0,"joulesPerTask":12.34,"decisionMicros":0.04,"episodes":7}` +
		"\n" + strings.Repeat(`{"policy":"edge","target":"local","localTime":0.001,"cloudTime":900,"took":0.01,"missed":true}`+"\n", 900)
	golden.Require(t, "page.golden", strings.ReplaceAll(drawn(t, text), "><", ">\n<"))
}
