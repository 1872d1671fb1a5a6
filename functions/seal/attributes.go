package seal

import (
	"cmp"
	"slices"
	"strconv"

	"app-offload/functions/check"
)

// kind is the CloudEvents type of an attribute. Both forms of a message must carry the very same type.
type kind uint8

const (
	text kind = iota
	integer
	timestamp
	other // of an attribute that is not of this format
)

// attribute is one context attribute with its canonical text, which is the same in both forms.
type attribute struct {
	name, value string
	kind        kind
}

// attributes are all context attributes of one message, ascending by name and without duplicates.
type attributes []attribute

// kindOf is the type an attribute of this format has; those that are not listed are text.
func kindOf(name string) kind {
	switch name {
	case "count":
		return integer
	case "time":
		return timestamp
	}
	return text
}

// isOurs reports whether the format defines the type of an attribute.
func isOurs(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
		"epoch", "session", "sequence", "count", "floor", "contentencoding", "cipher", "keyid":
		return true
	}
	return false
}

// newAttributes sorts the pairs of names and values. Empty values stand for absent attributes.
func newAttributes(pairs ...string) attributes {
	a := make(attributes, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			a = append(a, attribute{pairs[i], pairs[i+1], kindOf(pairs[i])})
		}
	}
	a.sort()
	return a
}

func (a attributes) sort() {
	slices.SortFunc(a, func(x, y attribute) int { return cmp.Compare(x.name, y.name) })
}

// get is the value of an attribute, "" without one.
func (a attributes) get(name string) string {
	for i := range a {
		if a[i].name == name {
			return a[i].value
		}
	}
	return ""
}

// validate holds what both forms need to agree on: lower-case names, printable text, no name twice.
func (a attributes) validate() error {
	for i := range a {
		if i > 0 && a[i].name == a[i-1].name {
			return malformedf("attributes", "%q is there twice", a[i].name)
		}
		if !isName(a[i].name) || !isText(a[i].value) {
			return malformedf("attributes", "%q = %q", a[i].name, a[i].value)
		}
	}
	return nil
}

// appendAAD appends the canonical encoding that is authenticated with the payload: see "Authenticated attributes" in
// FORMAT.md. Lengths make it unambiguous, so no value can pretend to be the end of another.
func (a attributes) appendAAD(dst []byte) []byte {
	dst = append(dst, "offload-aad-v1\n"...)
	for i := range a {
		dst = append(dst, a[i].name...)
		dst = append(dst, '=')
		dst = strconv.AppendInt(dst, int64(len(a[i].value)), 10)
		dst = append(dst, ':')
		dst = append(dst, a[i].value...)
		dst = append(dst, '\n')
	}
	return dst
}

// isName reports whether s is a legal name of a CloudEvents attribute.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// IsText reports whether s can stand in a message as the name of a node, class, key or consumer. Callers check such names here,
// so that nothing is accepted that cannot be sealed later.
func IsText(s string) bool { return isText(s) }

// isText reports whether s may be a CloudEvents string that is not empty.
func isText(s string) bool { return check.Printable(s) }
