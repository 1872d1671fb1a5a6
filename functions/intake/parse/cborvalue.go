package parse

// Tags of CBOR with a meaning of their own (RFC 8949, 3.4).
const (
	cborTagDate     = 0
	cborTagEpoch    = 1
	cborTagPositive = 2
	cborTagNegative = 3
)

// cborSkip passes over a data item of any kind, and checks it on the way.
func (p *parser) cborSkip() bool {
	start := p.i
	h, ok := p.head()
	if !ok {
		return false
	}
	switch h.major {
	case cborBytes, cborText:
		p.i = start
		_, ok := p.cborString(h.major, "a string")
		return ok
	case cborArray:
		return p.cborSkipArray(h)
	case cborMap:
		return p.cborSkipMap(h, false)
	case cborTag:
		return p.cborSkipTag(h, start)
	case cborSimple:
		if h.info == 24 && h.arg < 32 {
			return p.fail(ReasonMalformed, start, "a simple value in two bytes that fits one")
		}
	}
	return true
}

func (p *parser) cborSkipArray(h cborHead) bool {
	if !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if !p.cborSkip() {
			return false
		}
	}
}

// cborSkipMap passes over a map; its keys are names, and unless only names are wanted they may be whole numbers.
func (p *parser) cborSkipMap(h cborHead, onlyNames bool) bool {
	if !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	var keys keySet
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if !p.cborKey(&keys, onlyNames) || !p.cborSkip() {
			return false
		}
	}
}

func (p *parser) cborKey(keys *keySet, onlyNames bool) bool {
	start := p.i
	key := span{start: start}
	ok := false
	switch {
	case p.atMajor(cborText):
		key, ok = p.cborString(cborText, "a name")
	case !onlyNames && (p.atMajor(cborUint) || p.atMajor(cborNegative)):
		_, ok = p.head()
		key.end = p.i
	default:
		return p.fail(ReasonMalformed, start, "a name is due")
	}
	if !ok {
		return false
	}
	if !keys.add(p, key) {
		return p.fail(ReasonDuplicate, start, "%q occurs twice", p.text(key))
	}
	return true
}

// cborSkipTag passes over a tagged item. Times are turned away: EdgeX writes them as whole numbers, and its decoder
// refuses many forms of them. Big numbers must be byte strings.
func (p *parser) cborSkipTag(h cborHead, start int) bool {
	switch h.arg {
	case cborTagDate, cborTagEpoch:
		return p.fail(ReasonWrongType, start, "a time with tag %d", h.arg)
	case cborTagPositive, cborTagNegative:
		if !p.atMajor(cborBytes) {
			return p.fail(ReasonMalformed, start, "tag %d on something other than a byte string", h.arg)
		}
	}
	if !p.enter() {
		return false
	}
	ok := p.cborSkip()
	p.depth--
	return ok
}
