package models

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is the version of a model: one to four numbers below 2³¹, separated by dots and without leading zeros, such as 1.4.0.
// A number that is absent is 0.
type Version string

const maxVersionParts = 4

// parts are the numbers, or an error that says what a version looks like.
func (v Version) parts() (list [maxVersionParts]uint64, err error) {
	fields := strings.Split(string(v), ".")
	if len(fields) > maxVersionParts {
		return list, fmt.Errorf("version %.64q has more than %d numbers", string(v), maxVersionParts)
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != f {
			return list, fmt.Errorf("version %.64q must be numbers separated by dots, such as 1.4.0", string(v))
		}
		list[i] = n
	}
	return list, nil
}

// Compare is below 0 where v is older than w, and above 0 where it is newer. A version that is not valid is older than all others.
func (v Version) Compare(w Version) int {
	a, errA := v.parts()
	b, errB := w.parts()
	if errA != nil || errB != nil {
		return cmp.Compare(btoi(errA == nil), btoi(errB == nil))
	}
	for i := range a {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
