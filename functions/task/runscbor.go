package task

import "encoding/binary"

// The major types of CBOR (RFC 8949, 3.1) that hold something, and the byte that ends what is of indefinite length.
const (
	cborBytes = 2
	cborText  = 3
	cborArray = 4
	cborMap   = 5
	cborTag   = 6
	cborBreak = 0xff
	cborDeep  = 64 // nesting above which nothing is cut
)

// item is the head of a data item.
type item struct {
	major      byte
	indefinite bool
	arg        uint64
	next       int // where what follows the head begins
}

// itemAt reads the head of the data item at a place.
func itemAt(raw []byte, at int) (item, bool) {
	if at < 0 || at >= len(raw) {
		return item{}, false
	}
	h := item{major: raw[at] >> 5, next: at + 1}
	info, rest := raw[at]&31, raw[at+1:]
	switch {
	case info < 24:
		h.arg = uint64(info)
	case info == 24 && len(rest) >= 1:
		h.arg = uint64(rest[0])
	case info == 25 && len(rest) >= 2:
		h.arg = uint64(binary.BigEndian.Uint16(rest))
	case info == 26 && len(rest) >= 4:
		h.arg = uint64(binary.BigEndian.Uint32(rest))
	case info == 27 && len(rest) >= 8:
		h.arg = binary.BigEndian.Uint64(rest)
	case info == 31 && h.major >= cborBytes && h.major <= cborMap:
		h.indefinite = true
	default:
		return h, false
	}
	if info >= 24 && info <= 27 {
		h.next += 1 << (info - 24)
	}
	return h, true
}

// skipCBOR is where the data item ends that begins at a place, -1 without one.
func skipCBOR(raw []byte, at, deep int) int {
	h, ok := itemAt(raw, at)
	if !ok || deep > cborDeep {
		return -1
	}
	left := uint64(0)
	switch at = h.next; h.major {
	case cborBytes, cborText:
		if !h.indefinite {
			if h.arg > uint64(len(raw)-at) {
				return -1
			}
			return at + int(h.arg) // within raw
		}
	case cborArray, cborTag:
		if left = h.arg; h.major == cborTag {
			left = 1
		}
	case cborMap:
		left = 2 * min(h.arg, uint64(len(raw)))
	default:
		return at
	}
	for ; h.indefinite || left > 0; left-- {
		if h.indefinite && at < len(raw) && raw[at] == cborBreak {
			return at + 1
		}
		if at = skipCBOR(raw, at, deep+1); at < 0 {
			return -1
		}
	}
	return at
}

// cborBounds is readingBounds for an event of CBOR.
func cborBounds(raw []byte, n int) ([][2]int, bool) {
	h, ok := itemAt(raw, 0)
	if !ok || h.major != cborMap {
		return nil, false
	}
	at := h.next
	for left := h.arg; h.indefinite || left > 0; left-- {
		if at < len(raw) && raw[at] == cborBreak {
			return nil, false
		}
		value := skipCBOR(raw, at, 0)
		if value < 0 {
			return nil, false
		}
		if name, ok := itemAt(raw, at); ok && !name.indefinite && string(raw[name.next:value]) == "readings" {
			return cborElements(raw, value, n)
		}
		if at = skipCBOR(raw, value, 0); at < 0 {
			return nil, false
		}
	}
	return nil, false
}

func cborElements(raw []byte, at, n int) ([][2]int, bool) {
	h, ok := itemAt(raw, at)
	if !ok || h.major != cborArray || !h.indefinite && h.arg != uint64(n) {
		return nil, false
	}
	bounds := make([][2]int, 0, n)
	for at = h.next; len(bounds) < n; {
		end := skipCBOR(raw, at, 0)
		if end < 0 {
			return nil, false
		}
		bounds = append(bounds, [2]int{at, end})
		at = end
	}
	return bounds, !h.indefinite || at < len(raw) && raw[at] == cborBreak
}

// appendReadingsHead begins an array of n readings.
func appendReadingsHead(dst []byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, cborArray<<5|byte(n))
	case n < 1<<8:
		return append(dst, cborArray<<5|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, cborArray<<5|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, cborArray<<5|26), uint32(n)) // an event has fewer readings
}

// readingsHead reads it: how many readings follow, and from where on.
func readingsHead(data []byte) (n, at int, ok bool) {
	h, ok := itemAt(data, 0)
	if !ok || h.major != cborArray || h.indefinite || h.arg > uint64(len(data)) {
		return 0, 0, false
	}
	return int(h.arg), h.next, true // at most len(data)
}
