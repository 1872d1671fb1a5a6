package check

import "strings"

// Nearest returns the name most similar to the given one, ignoring case: at most a third of its letters, or of the letters of its beginning, differ.
// It returns "" if no name is that similar.
func Nearest(name string, names []string) string {
	name = strings.ToLower(name)
	best, least := "", max(len(name)/3, 2)+1
	for _, n := range names {
		lower := strings.ToLower(n)
		d := distance(name, lower)
		if len(name) > 3 {
			d = min(d, distance(name, lower[:min(len(name), len(lower))]))
		}
		if d < min(least, len(name)) {
			best, least = n, d
		}
	}
	return best
}

// DidYouMean returns "; did you mean X?" if a name is similar to the given one, else "".
func DidYouMean(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// maxCompared bounds the compared bytes of a name: the effort grows with their square.
const maxCompared = 256

// distance returns the number of letters to add, drop or replace between two names.
func distance(a, b string) int {
	a, b = a[:min(len(a), maxCompared)], b[:min(len(b), maxCompared)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			row[j+1] = min(above, row[j]) + 1
			if a[i] == b[j] {
				row[j+1] = min(row[j+1], left)
			} else {
				row[j+1] = min(row[j+1], left+1)
			}
			left = above
		}
	}
	return row[len(b)]
}
