package consume

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textMax bounds the texts of a dead letter and of a log line: anybody on the broker can make them as long as a message.
const textMax = 1024

// bounded makes text fit to be kept and shown: at most so many bytes and a few more, and each character that cannot be printed escaped,
// once. What is printable stays as it is.
func bounded(text string, most int) string {
	if len(text) <= most && isShown(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if b.Len() >= most {
			return b.String() + "…"
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// Shown is text as a table or a terminal can take it; see bounded.
func Shown(text string, most int) string { return bounded(text, most) }

func isShown(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
