package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// scripts are the parts of the script, in order: each uses the ones before it.
var scripts = []string{"format.js", "chart.js", "lists.js", "page.js"}

// The marks in page.html: style and script are filled in once, token and first data for each request.
const (
	styleMark  = "/*style*/"
	scriptMark = "/*script*/"
	tokenMark  = "{{token}}"
	firstMark  = "{{first}}"
)

// shell is the document with style and script; header is the policy that allows only these two.
var shell, header = build()

func build() (shell, header string) {
	style, script := read("page.css"), "(() => {\n\"use strict\";\n"
	for _, name := range scripts {
		script += read(name)
	}
	script += "})();"
	shell = strings.NewReplacer(styleMark, style, scriptMark, script).Replace(read("page.html"))
	return shell, fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", fingerprint(script), fingerprint(style))
}

// read returns an embedded file. A missing file panics at every start, which a test would show.
func read(name string) string {
	raw, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// fingerprint returns the hash by which a Content-Security-Policy names a text.
func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// ServePage writes the document with the current data, so that the first paint shows it, and with the token of this request, which the script's own
// requests need in secure mode.
func (d *Dashboard) ServePage(w http.ResponseWriter, r *http.Request) error {
	first, err := json.Marshal(d.Data(time.Now(), Query{}))
	if err != nil {
		return fmt.Errorf("writing the first numbers of the page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", header)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// encoding/json escapes < and >, so the data cannot end its element.
	_, err = strings.NewReplacer(tokenMark, html.EscapeString(bearer(r)), firstMark, string(first)).WriteString(w, shell)
	return err
}

// heldElsewhere is the header by which a proxy, such as offloadctl ui, declares that it adds the token to every request, so that the page does not
// need it.
const heldElsewhere = "Offload-Token-Held"

// bearer returns the token of a request, or "".
func bearer(r *http.Request) string {
	if r.Header.Get(heldElsewhere) != "" {
		return ""
	}
	kind, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
