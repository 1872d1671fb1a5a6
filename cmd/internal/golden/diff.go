package golden

import (
	"fmt"
	"strings"
)

// shown is the number of differing lines that a failed test prints.
const shown = 10

// diff lists the first differing lines of two texts with their numbers.
func diff(want, have string) string {
	a, b := strings.Split(want, "\n"), strings.Split(have, "\n")
	var out strings.Builder
	differing := 0
	for i := range max(len(a), len(b)) {
		w, h := at(a, i), at(b, i)
		if w == h {
			continue
		}
		if differing++; differing > shown {
			continue
		}
		fmt.Fprintf(&out, "line %d\n\twant: %s\n\thave: %s\n", i+1, w, h)
	}
	if differing > shown {
		fmt.Fprintf(&out, "and %d more lines differ\n", differing-shown)
	}
	return out.String()
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no such line)"
}
