package check

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A glob is a pattern for names: '*' is any text, '?' any one character, [a-z] one character of these, [^a-z] one of all others, and a backslash
// takes the next character literally. Names are not paths: '/', blanks and '#' are ordinary characters.

// errGlob reports a malformed pattern.
var errGlob = errors.New(`is not a glob; close every [ and escape with \`)

// Matches reports whether the glob matches the whole name. A glob that Glob rejects matches nothing. Matches does not allocate, and takes at most
// len(glob) × len(name) steps.
func Matches(glob, name string) bool {
	starGlob, starName := "", "" // where to retry, with one more character under the last '*'
	starred := false
	for {
		if glob != "" && glob[0] == '*' {
			glob = glob[1:]
			starGlob, starName, starred = glob, name, true
			continue
		}
		if name == "" && strings.Trim(glob, "*") == "" {
			return true
		}
		if name != "" && glob != "" {
			r, size := utf8.DecodeRuneInString(name)
			ok, rest, err := one(glob, r)
			if err != nil {
				return false
			}
			if ok {
				glob, name = rest, name[size:]
				continue
			}
		}
		if !starred || starName == "" {
			return false
		}
		_, size := utf8.DecodeRuneInString(starName)
		starName = starName[size:]
		glob, name = starGlob, starName
	}
}

// one matches a character with the first element of a glob that is not '*', and returns the rest of the glob.
func one(glob string, r rune) (ok bool, rest string, err error) {
	switch glob[0] {
	case '?':
		return true, glob[1:], nil
	case '[':
		return set(glob[1:], r)
	}
	c, rest, err := char(glob)
	return c == r, rest, err
}

// set matches a character with the set after a '['.
func set(glob string, r rune) (ok bool, rest string, err error) {
	negated := strings.HasPrefix(glob, "^")
	glob = strings.TrimPrefix(glob, "^")
	for n := 0; ; n++ {
		if strings.HasPrefix(glob, "]") && n > 0 {
			return ok != negated, glob[1:], nil
		}
		if glob == "" || glob[0] == ']' || glob[0] == '-' {
			return false, "", errGlob
		}
		low, rest, err := char(glob)
		high := low
		if err == nil && strings.HasPrefix(rest, "-") {
			if rest == "-" || rest[1] == ']' || rest[1] == '-' {
				return false, "", errGlob
			}
			high, rest, err = char(rest[1:])
		}
		if err != nil {
			return false, "", err
		}
		ok = ok || low <= r && r <= high
		glob = rest
	}
}

// char reads one character, which may be escaped by a backslash.
func char(glob string) (rune, string, error) {
	if glob[0] == '\\' {
		if glob = glob[1:]; glob == "" {
			return 0, "", errGlob
		}
	}
	r, size := utf8.DecodeRuneInString(glob)
	if r == utf8.RuneError && size == 1 {
		return 0, "", errors.New("is not UTF-8, as every name is; it matches nothing")
	}
	return r, glob[size:], nil
}

// Glob returns an error for a glob that is malformed or can match no name: a NeverLeave class that matches nothing would let everything leave. It
// also rejects patterns of another notation, such as a regular expression: every character that makes it one must be escaped if names really contain
// it.
func Glob(glob string) error {
	if !utf8.ValidString(glob) {
		return errors.New("is not UTF-8, as every name is; it matches nothing")
	}
	if strings.TrimSpace(glob) != glob {
		return errors.New("begins or ends with a blank, and so matches nothing; remove the blank")
	}
	for rest := glob; rest != ""; {
		if rest[0] == '*' {
			rest = rest[1:]
			continue
		}
		_, next, err := one(rest, 0)
		if err == nil && rest[0] == '[' {
			err = satisfiable(rest[1 : len(rest)-len(next)-1])
		}
		if err != nil {
			return err
		}
		rest = next
	}
	return notForeign(glob)
}

// satisfiable rejects a set that no character matches: a reversed range, or an exclusion of every character.
func satisfiable(set string) error {
	negated := strings.HasPrefix(set, "^")
	for rest := strings.TrimPrefix(set, "^"); rest != ""; {
		low, next, _ := char(rest) // read by set before
		high := low
		if strings.HasPrefix(next, "-") {
			high, next, _ = char(next[1:])
		}
		if low > high {
			return fmt.Errorf("holds the range %c-%c, which is empty; write %c-%c", low, high, high, low)
		}
		if negated && low <= ' ' && high == utf8.MaxRune {
			return errors.New("excludes every character by a [^…] and so matches nothing")
		}
		rest = next
	}
	return nil
}

var (
	// literal matches the literal parts of a glob.
	literal = regexp.MustCompile(`\\[^A-Za-z0-9]|\[[^\]]*\]`)
	// foreign matches notation of regular expressions or shells that has no meaning in a glob: anchors, escaped letters, a repeated dot at the
	// beginning, groups and lists of alternatives.
	foreign = regexp.MustCompile(`^\^|\$$|\\[A-Za-z0-9]|^\.[*+]|\(\?|\(.*\|.*\)|\{.*,.*\}`)
)

// notForeign rejects a pattern that would not be read as it was meant.
func notForeign(glob string) error {
	found := foreign.FindString(literal.ReplaceAllString(glob, "_"))
	if found == "" {
		return nil
	}
	return fmt.Errorf("holds %q, which is not a glob's notation, and so would match no name; write it like \"Camera*\", and put \\ before each character that the name really has", found)
}
