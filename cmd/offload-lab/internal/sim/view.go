package sim

import (
	"fmt"
	"slices"
	"strings"
)

// View is the gateway's view of itself. The zero value is that of the service; each field changes one aspect.
type View struct {
	// Exact shows the true queues, drained continuously, which no gateway knows.
	Exact bool
	// Still counts all unacknowledged work as ahead: it ignores presumed progress.
	Still bool
	// Uncorrected predicts from the configuration only: outcomes correct nothing.
	Uncorrected bool
	// Unguarded disables the guards.
	Unguarded bool
}

// switches maps the words to the fields.
func (v *View) switches() map[string]*bool {
	return map[string]*bool{"exact": &v.Exact, "still": &v.Still, "uncorrected": &v.Uncorrected, "unguarded": &v.Unguarded}
}

// ViewOf parses comma-separated words; an empty text is the service's view.
func ViewOf(words string) (v View, err error) {
	on := v.switches()
	for word := range strings.SplitSeq(words, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		at, known := on[word]
		if !known {
			var all []string
			for name := range on {
				all = append(all, name)
			}
			slices.Sort(all)
			return v, fmt.Errorf("view %q: must be one of %s", word, strings.Join(all, ", "))
		}
		*at = true
	}
	return v, nil
}
