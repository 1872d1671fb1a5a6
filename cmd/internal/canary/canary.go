// Package canary finds planted secrets in logs and answers, whatever form they took on the way there. It is for tests.
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

// Plant adds a secret and gives it back as text. A text of several lines, such as a key in PEM, is looked for line by line.
func (f Flock) Plant(name, secret string) string {
	lines := strings.Split(strings.TrimSpace(secret), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "-----") {
			continue // the frame of a PEM block is no secret
		}
		if len(lines) > 1 {
			f[fmt.Sprintf("%s, line %d", name, i+1)] = []byte(line)
		} else {
			f[name] = []byte(line)
		}
	}
	return secret
}

// PlantKey adds the bytes of a key, and gives them as hex, the way a secret is written.
func (f Flock) PlantKey(name string, key []byte) string {
	f[name] = key
	return hex.EncodeToString(key)
}

// Find names every secret that the text shows in any form, with the form and what stands around it.
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

// forms are the ways in which bytes get into text. Base64 is looked for at each of the three places in a group where the
// secret may begin, without the ends that depend on its neighbours.
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
