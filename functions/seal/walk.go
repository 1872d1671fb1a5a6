package seal

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNotJSON = errors.New("not valid JSON of the expected type")

// The walkers below process JSON that json.Valid has accepted, so they only follow its structure. Decoding a batch with encoding/json alone scans
// each event six times; this way it is scanned strictly once.

// eachMember calls f for the members of a valid JSON object; raw points into it.
func eachMember(object []byte, f func(name string, raw json.RawMessage) error) error {
	return eachItem(object, '{', func(b []byte) (int, error) {
		end := skipValue(b)
		name, err := memberName(b[:end])
		if err != nil {
			return 0, err
		}
		start := end + skipSpace(b[end:]) + 1 // after the colon
		start += skipSpace(b[start:])
		end = start + skipValue(b[start:])
		return end, f(name, b[start:end:end])
	})
}

// eachElement calls f for the elements of a valid JSON array; raw points into it.
func eachElement(array []byte, f func(raw json.RawMessage) error) error {
	return eachItem(array, '[', func(b []byte) (int, error) {
		end := skipValue(b)
		return end, f(b[:end:end])
	})
}

// eachItem calls take at the start of each item; take returns the item's length.
func eachItem(b []byte, open byte, take func([]byte) (int, error)) error {
	at := skipSpace(b)
	if at == len(b) || b[at] != open {
		return errNotJSON
	}
	for at++; ; at++ {
		at += skipSpace(b[at:])
		if b[at] == open+2 { // in ASCII both closing brackets come two after the opening ones
			return nil
		}
		n, err := take(b[at:])
		if err != nil {
			return err
		}
		at += n
		at += skipSpace(b[at:])
		if b[at] != ',' {
			return nil
		}
	}
}

func memberName(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var name string
	err := json.Unmarshal(quoted, &name)
	return name, err
}

// skipSpace returns the length of the white space at the beginning of b.
func skipSpace(b []byte) int {
	for i, c := range b {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return i
		}
	}
	return len(b)
}

// skipValue returns the length of the value at the beginning of b.
func skipValue(b []byte) int {
	switch b[0] {
	case '"':
		return skipString(b)
	case '{', '[':
		return skipNested(b)
	}
	if i := bytes.IndexAny(b, ",]} \n\t\r"); i >= 0 {
		return i
	}
	return len(b)
}

func skipString(b []byte) int {
	for i := 1; ; {
		i += bytes.IndexByte(b[i:], '"')
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		i++
		if escapes%2 == 0 {
			return i
		}
	}
}

func skipNested(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			i += skipString(b[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}
