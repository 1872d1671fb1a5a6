package parse

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonSkip passes over a value of any kind, and checks it on the way.
func (p *parser) jsonSkip() bool {
	if p.i >= len(p.b) {
		return p.unexpected("a value")
	}
	switch p.b[p.i] {
	case '{':
		return p.jsonSkipObject()
	case '[':
		return p.jsonSkipArray()
	case '"':
		_, ok := p.jsonString()
		return ok
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	}
	return p.number()
}

func (p *parser) jsonSkipObject() bool {
	p.i++
	if !p.enter() {
		return false
	}
	var keys keySet
	for more := !p.closes('}'); more; {
		key, ok := p.jsonKey()
		if !ok {
			return false
		}
		if !keys.add(p, key) {
			return p.fail(ReasonDuplicate, key.start, "%q occurs twice", p.text(key))
		}
		if !p.jsonSkip() {
			return false
		}
		if more, ok = p.next('}'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

func (p *parser) jsonSkipArray() bool {
	p.i++
	if !p.enter() {
		return false
	}
	for more := !p.closes(']'); more; {
		if !p.jsonSkip() {
			return false
		}
		var ok bool
		if more, ok = p.next(']'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

// number passes over a number in JSON's notation.
func (p *parser) number() bool {
	start := p.i
	if p.at('-') {
		p.i++
	}
	if p.at('0') {
		p.i++
	} else if !p.digits() {
		return p.unexpected("a value")
	}
	if p.at('.') {
		p.i++
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	if p.at('e') || p.at('E') {
		p.i++
		if p.at('+') || p.at('-') {
			p.i++
		}
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	return p.finite(start)
}

// finite turns away what no float64 can hold, as EdgeX's decoder does.
func (p *parser) finite(start int) bool {
	if _, err := strconv.ParseFloat(string(p.b[start:p.i]), 64); err != nil {
		return p.fail(ReasonWrongType, start, "number out of the range of 64 bits")
	}
	return true
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		p.i++
	}
	return p.i > start
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape resolves the escapes of a string that was checked before. Half of a surrogate pair becomes U+FFFD, as in
// encoding/json.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		switch {
		case b[i] != '\\':
			out = append(out, b[i])
			i++
		case b[i+1] != 'u':
			out = append(out, escapes[b[i+1]])
			i += 2
		default:
			r, n := unescapeRune(b[i:])
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	return out
}

func unescapeRune(b []byte) (rune, int) {
	r, _ := hex4(b[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		second, _ := hex4(b[8:])
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}
