package check

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable reports whether a text is UTF-8 without control characters, of 1 to 4096 bytes: what a message and a broker take as a name.
func Printable(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return text != "" && len(text) <= 4096
}

// Cut returns a copy of the text that keeps nothing else in memory and has at most limit bytes: what is longer ends in "…". Bytes that are
// not UTF-8 become U+FFFD. Use it on what a stranger sent before it is formatted or kept.
func Cut(text string, limit int) string {
	const mark = "…"
	whole := strings.ToValidUTF8(text[:min(len(text), limit)], "\uFFFD")
	if len(text) <= limit && len(whole) <= limit {
		return strings.Clone(whole)
	}
	cut := max(limit-len(mark), 0)
	return strings.ToValidUTF8(whole[:min(len(whole), cut)], "") + mark
}
