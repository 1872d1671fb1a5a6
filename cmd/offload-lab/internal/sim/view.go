package sim

import (
	"fmt"
	"slices"
	"strings"
)

// View is how a gateway sees itself. The zero value is the service; each field takes one thing away from it or adds one.
type View struct {
	// Exact shows queues as they really are, drained continuously, which no gateway knows.
	Exact bool
	// Still shows all that is not acknowledged as ahead: nothing is taken to have left since the oldest message began to.
	Still bool
	// Uncorrected predicts by the configuration alone: outcomes correct nothing.
	Uncorrected bool
	// Unguarded leaves every decision to the policy.
	Unguarded bool
}

// switches are the words by which parts of the view are changed.
func (v *View) switches() map[string]*bool {
	return map[string]*bool{"exact": &v.Exact, "still": &v.Still, "uncorrected": &v.Uncorrected, "unguarded": &v.Unguarded}
}

// ViewOf reads words separated by commas; none is the service's view.
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
