package badlink

import "encoding/binary"

// framer finds the packets in a stream, which may come in any pieces.
type framer struct{ rest []byte }

// pass takes bytes in and gives back the whole packets that are not of the type.
func (f *framer) pass(in []byte, packet int) []byte {
	f.rest = append(f.rest, in...)
	var out []byte
	for {
		size := frame(f.rest)
		if size == 0 {
			return out
		}
		if int(f.rest[0]>>4) != packet {
			out = append(out, f.rest[:size]...)
		}
		f.rest = f.rest[size:]
	}
}

// frame is the size of the packet at the start of b, or 0 if it is not all there. MQTT writes lengths as varints.
func frame(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	length, n := binary.Uvarint(b[1:min(len(b), 5)])
	if size := 1 + n + int(length); n > 0 && size <= len(b) { // #nosec G115 -- four bytes hold less than 2²⁸
		return size
	}
	return 0
}
