package check

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable reports whether a text is UTF-8 without control characters, of 1 to 4096 bytes, as messages and brokers require of a name.
func Printable(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return text != "" && len(text) <= 4096
}

// Cut returns a copy of the text of at most limit bytes that pins no other memory: a longer text ends in "…". Bytes that are not UTF-8 become U+FFFD.
// Use it on untrusted text before it is formatted or kept.
func Cut(text string, limit int) string {
	const mark = "…"
	whole := strings.ToValidUTF8(text[:min(len(text), limit)], "\uFFFD")
	if len(text) <= limit && len(whole) <= limit {
		return strings.Clone(whole)
	}
	cut := max(limit-len(mark), 0)
	return strings.ToValidUTF8(whole[:min(len(whole), cut)], "") + mark
}
