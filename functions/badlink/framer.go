package badlink

import "encoding/binary"

// framer finds the packets in a stream, which may come in any pieces.
type framer struct{ rest []byte }

// pass takes bytes in and gives back the whole packets that the flow lets through. It reports whether the flow ends the connection
// at one of them; what came before that one is given back.
func (f *framer) pass(in []byte, flow *Flow) (out []byte, refused bool) {
	f.rest = append(f.rest, in...)
	for {
		size := frame(f.rest)
		if size == 0 {
			return out, false
		}
		packet := int(f.rest[0] >> 4)
		if packet == flow.Refuse && size > flow.RefuseAbove {
			return out, true
		}
		if size > len(f.rest) {
			return out, false
		}
		if packet != flow.Swallow {
			out = append(out, f.rest[:size]...)
		}
		f.rest = f.rest[size:]
	}
}

// frame is the size of the packet that starts b, or 0 as long as that is not known. MQTT writes lengths as varints.
func frame(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	length, n := binary.Uvarint(b[1:min(len(b), 5)])
	if n <= 0 {
		return 0
	}
	return 1 + n + int(length) // four bytes hold less than 2²⁸
}
