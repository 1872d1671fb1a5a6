package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An event received as CBOR appears in a JSON message as a JSON event if its original bytes can be restored from that: FORMAT.md has the rules. They
// match EdgeX's own encoder, so failures are rare; such an event appears as base64.

// The major types of CBOR (RFC 8949, 3.1), and its simple values.
const (
	majorUint byte = iota << 5
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
)

const (
	cborFalse   = 0xf4
	cborTrue    = 0xf5
	cborNull    = 0xf6
	cborFloat64 = 0xfb
	cborDepth   = 64 // nesting above which an event is not converted
)

// binaryName is the member whose byte string is base64 in JSON.
const binaryName = "binaryValue"

var errNotReadable = errors.New("conversion to JSON and back would change it")

// readableCBOR converts a CBOR event to JSON. It returns nil if eventCBOR would not restore the same bytes.
func readableCBOR(data []byte) []byte {
	if len(data) == 0 || data[0]&0xe0 != majorMap {
		return nil
	}
	w := jsonWriter{in: data, out: make([]byte, 0, 2*len(data))}
	if err := w.value("", 0); err != nil || len(w.in) > 0 {
		return nil
	}
	if back, err := eventCBOR(w.out); err != nil || !bytes.Equal(back, data) {
		return nil
	}
	return w.out
}

// jsonWriter writes the data items at the beginning of in as JSON.
type jsonWriter struct {
	in, out []byte
}

func (w *jsonWriter) value(name string, depth int) error {
	if len(w.in) == 0 || depth > cborDepth {
		return errNotReadable
	}
	switch w.in[0] {
	case cborFalse, cborTrue, cborNull:
		w.out = append(w.out, [...]string{"false", "true", "null"}[w.in[0]-cborFalse]...)
		w.in = w.in[1:]
		return nil
	case cborFloat64:
		return w.float()
	}
	major := w.in[0] & 0xe0
	n, err := w.head()
	switch {
	case err != nil:
		return err
	case major == majorUint:
		w.out = strconv.AppendUint(w.out, n, 10)
		return nil
	case major == majorNegative && n <= math.MaxInt64:
		w.out = strconv.AppendInt(w.out, -1-int64(n), 10)
		return nil
	case n > uint64(len(w.in)): // each element has at least one byte
		return errNotReadable
	case major == majorText:
		_, err = w.text(n)
		return err
	case major == majorBytes && name == binaryName:
		w.out = append(base64.StdEncoding.AppendEncode(append(w.out, '"'), w.in[:n]), '"')
		w.in = w.in[n:]
		return nil
	case major == majorArray, major == majorMap:
		return w.members(major == majorMap, n, depth)
	}
	return errNotReadable
}

func (w *jsonWriter) float() error {
	if len(w.in) < 9 {
		return errNotReadable
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(w.in[1:]))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errNotReadable
	}
	w.in = w.in[9:]
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !isFloat(text) {
		text += ".0"
	}
	w.out = append(w.out, text...)
	return nil
}

// isFloat reports whether number is a float and not an integer.
func isFloat(number string) bool { return strings.ContainsAny(number, ".eE") }

// head consumes the argument of a head of definite length.
func (w *jsonWriter) head() (uint64, error) {
	info, rest := w.in[0]&31, w.in[1:]
	if info < 24 {
		w.in = rest
		return uint64(info), nil
	}
	if info > 27 || len(rest) < 1<<(info-24) {
		return 0, errNotReadable
	}
	n, size := uint64(0), 1<<(info-24)
	for _, b := range rest[:size] {
		n = n<<8 | uint64(b)
	}
	w.in = rest[size:]
	return n, nil
}

func (w *jsonWriter) text(n uint64) (string, error) {
	s := string(w.in[:n])
	if !utf8.ValidString(s) {
		return "", errNotReadable
	}
	w.in = w.in[n:]
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return "", err
	}
	w.out = append(w.out, bytes.TrimSuffix(quoted.Bytes(), []byte{'\n'})...)
	return s, nil
}

func (w *jsonWriter) members(named bool, n uint64, depth int) error {
	open, end := byte('['), byte(']')
	if named {
		open, end = '{', '}'
	}
	w.out = append(w.out, open)
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		name := ""
		if named {
			if len(w.in) == 0 || w.in[0]&0xe0 != majorText {
				return errNotReadable
			}
			size, err := w.head()
			if err != nil || size > uint64(len(w.in)) {
				return errNotReadable
			}
			if name, err = w.text(size); err != nil {
				return err
			}
			w.out = append(w.out, ':')
		}
		if err := w.value(name, depth+1); err != nil {
			return err
		}
	}
	w.out = append(w.out, end)
	return nil
}

// eventCBOR converts the JSON of readableCBOR back to CBOR.
func eventCBOR(event []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	out, err := appendCBOR(make([]byte, 0, len(event)), d, "", 0)
	if err != nil {
		return nil, fmt.Errorf("converting an event to CBOR: %w", err)
	}
	return out, nil
}

func appendCBOR(dst []byte, d *json.Decoder, name string, depth int) ([]byte, error) {
	token, err := d.Token()
	if err != nil {
		return dst, err
	}
	switch v := token.(type) {
	case nil:
		return append(dst, cborNull), nil
	case bool:
		if v {
			return append(dst, cborTrue), nil
		}
		return append(dst, cborFalse), nil
	case string:
		if name != binaryName {
			return append(appendHead(dst, majorText, uint64(len(v))), v...), nil
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(v)
		return append(appendHead(dst, majorBytes, uint64(len(raw))), raw...), err
	case json.Number:
		return appendNumber(dst, v.String())
	case json.Delim:
		return appendMembers(dst, d, v == '{', depth)
	}
	return dst, fmt.Errorf("unexpected token %v", token)
}

func appendNumber(dst []byte, text string) ([]byte, error) {
	if isFloat(text) {
		f, err := strconv.ParseFloat(text, 64)
		return binary.BigEndian.AppendUint64(append(dst, cborFloat64), math.Float64bits(f)), err
	}
	if strings.HasPrefix(text, "-") {
		n, err := strconv.ParseInt(text, 10, 64)
		return appendHead(dst, majorNegative, uint64(-1-n)), err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return appendHead(dst, majorUint, n), err
}

func appendMembers(dst []byte, d *json.Decoder, named bool, depth int) ([]byte, error) {
	if depth >= cborDepth {
		return dst, fmt.Errorf("nested deeper than %d", cborDepth)
	}
	var inner []byte
	n := uint64(0)
	for ; d.More(); n++ {
		name := ""
		if named {
			token, err := d.Token()
			if err != nil {
				return dst, err
			}
			name, _ = token.(string)
			inner = append(appendHead(inner, majorText, uint64(len(name))), name...)
		}
		var err error
		if inner, err = appendCBOR(inner, d, name, depth+1); err != nil {
			return dst, err
		}
	}
	if _, err := d.Token(); err != nil {
		return dst, err
	}
	major := majorArray
	if named {
		major = majorMap
	}
	return append(appendHead(dst, major, n), inner...), nil
}

// appendHead appends the shortest head of a data item.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}
