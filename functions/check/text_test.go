package check

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	for _, row := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"short", 10, "short"},
		{"exactly 10", 10, "exactly 10"},
		{"eleven byte", 10, "eleven …"},
		{"ääääää", 10, "äää…"}, // no half of a letter
		{"a\xffb", 10, "a\uFFFDb"},
		{strings.Repeat("\x7f", 15<<20), 10, "\x7f\x7f\x7f\x7f\x7f\x7f\x7f…"},
	} {
		if got := Cut(row.in, row.limit); got != row.want {
			t.Errorf("Cut(%.20q, %d): want %q, have %q", row.in, row.limit, row.want, got)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffb", 12)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 3 + (limit%200+200)%200
		got := Cut(text, limit)
		if !utf8.ValidString(got) || len(got) > limit {
			t.Fatalf("Cut(%q, %d) = %q", text, limit, got)
		}
		if utf8.ValidString(text) && len(text) <= limit && got != text {
			t.Fatalf("Cut(%q, %d) = %q", text, limit, got)
		}
	})
}
