// Package canary finds planted secrets in logs and answers in any encoding. It is for tests.
package canary

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Flock is the planted secrets by name.
type Flock map[string][]byte

// Plant adds a secret and returns it as text. It looks for a text of several lines, such as a key in PEM, line by line.
func (f Flock) Plant(name, secret string) string {
	lines := strings.Split(strings.TrimSpace(secret), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "-----") {
			continue // the frame of a PEM block is not secret
		}
		if len(lines) > 1 {
			f[fmt.Sprintf("%s, line %d", name, i+1)] = []byte(line)
		} else {
			f[name] = []byte(line)
		}
	}
	return secret
}

// PlantKey adds the bytes of a key, and returns them as hex, the form of a secret.
func (f Flock) PlantKey(name string, key []byte) string {
	f[name] = key
	return hex.EncodeToString(key)
}

// Find returns every secret in the text in any form, with the form and the surrounding text.
func (f Flock) Find(text string) (found []string) {
	lower := strings.ToLower(text)
	for name, secret := range f {
		for form, needle := range forms(secret) {
			hay := text
			if form == "hex" {
				hay = lower
			}
			if i := strings.Index(hay, needle); i >= 0 {
				found = append(found, fmt.Sprintf("%s as %s: %q", name, form, text[max(0, i-80):min(len(text), i+20)]))
			}
		}
	}
	return found
}

// forms returns the possible encodings of a secret. It covers base64 at each of the three offsets within a group, without the ends that depend on
// neighbouring bytes.
func forms(secret []byte) map[string]string {
	all := map[string]string{
		"text": string(secret), "hex": hex.EncodeToString(secret), "numbers": strings.Trim(fmt.Sprint(secret), "[]"),
		"JSON numbers": strings.ReplaceAll(strings.Trim(fmt.Sprint(secret), "[]"), " ", ","), "quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`),
		"URL": url.QueryEscape(string(secret)),
	}
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		for name, code := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64 of URLs": base64.RawURLEncoding} {
			text := code.EncodeToString(padded)
			all[fmt.Sprintf("%s at %d", name, shift)] = text[(shift*8+5)/6 : len(text)-1]
		}
	}
	return all
}
