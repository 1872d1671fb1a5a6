package seal

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxAttributes limits what is kept of a message before it is authenticated.
const maxAttributes = 64

// parse parses a message of either form. A JSON object begins with a brace, which no protobuf CloudEvent does.
//
// It does not use the SDK's readers: those ignore the case of names and convert types, so that two different messages could have the same attributes,
// and the authenticated attributes would differ from the received ones.
func parse(msg []byte) (e *envelope, err error) {
	if len(msg) > 0 && msg[0] == '{' {
		e, err = parseJSON(msg)
	} else {
		e, err = parseProtobuf(msg)
	}
	if err != nil {
		return nil, malformed("message", err)
	}
	e.attrs.sort()
	if err := e.attrs.validate(); err != nil {
		return nil, err
	}
	if v := e.attrs.get("specversion"); v != "1.0" {
		return nil, malformedf("attributes", "specversion %q is not 1.0", v)
	}
	return e, nil
}

func parseJSON(msg []byte) (*envelope, error) {
	if !utf8.Valid(msg) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(msg) {
		return nil, errNotJSON
	}
	e := &envelope{}
	if err := eachMember(msg, e.setMember); err != nil {
		return nil, err
	}
	if e.data == nil {
		return nil, errors.New("neither data nor data_base64 is present")
	}
	return e, nil
}

// setMember sets one member of the object.
func (e *envelope) setMember(name string, raw json.RawMessage) (err error) {
	isData := name == "data" || name == "data_base64"
	switch {
	case isData && e.data != nil:
		return errors.New("duplicate data")
	case name == "data":
		e.data, e.inline = raw, true
		return nil
	case isData:
		e.data, err = parseBase64(raw)
		return err
	case len(e.attrs) == maxAttributes:
		return fmt.Errorf("more than %d attributes", maxAttributes)
	}
	a, err := parseAttribute(name, raw)
	e.attrs = append(e.attrs, a)
	return err
}

// parseBase64 is strict, so that no two strings represent the same bytes.
func parseBase64(raw json.RawMessage) ([]byte, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, []byte(s))
	if err == nil && base64.StdEncoding.EncodedLen(len(data)) != len(s) {
		err = errors.New("data_base64 has line breaks")
	}
	return data, err
}

// parseAttribute enforces the types of the format. Unknown attributes of other types keep their JSON text.
func parseAttribute(name string, raw json.RawMessage) (attribute, error) {
	a := attribute{name: name, value: string(raw), kind: kindOf(name)}
	if a.kind == integer {
		n, err := strconv.ParseInt(a.value, 10, 32)
		if err != nil || strconv.FormatInt(n, 10) != a.value {
			return a, malformedf("attribute", "%s = %s is not an integer of 32 bits", name, a.value)
		}
		return a, nil
	}
	if raw[0] != '"' {
		if isOurs(name) {
			return a, malformedf("attribute", "%s = %s is not text", name, a.value)
		}
		return a, nil
	}
	if err := json.Unmarshal(raw, &a.value); err != nil {
		return a, err
	}
	if a.kind == timestamp {
		_, err := parseTime(a.value)
		return a, err
	}
	return a, nil
}

// The fields of a CloudEvent in protobuf, of its attribute values, and of google.protobuf.Timestamp.
const (
	ceID, ceSource, ceSpecVersion, ceType, ceAttributes, ceBinaryData = 1, 2, 3, 4, 5, 6

	entryName, entryValue = 1, 2

	valueBoolean, valueInteger, valueString, valueBytes, valueURI, valueURIRef, valueTimestamp = 1, 2, 3, 4, 5, 6, 7

	timeSeconds, timeNanos = 1, 2

	minSeconds, maxSeconds = -62_135_596_800, 253_402_300_799 // the years 1 and 9999
)

// parseProtobuf parses the wire format itself: generated code truncates numbers, drops unknown fields and accepts the last of duplicates, and would
// allocate many times the size of a message with very many attributes.
func parseProtobuf(msg []byte) (*envelope, error) {
	e := &envelope{}
	err := eachField(msg, func(num protowire.Number, n uint64, b []byte) error {
		switch {
		case num == ceBinaryData && b != nil && e.data == nil:
			e.data = append([]byte{}, b...)
			return nil
		case num > ceAttributes || b == nil:
			return fmt.Errorf("unexpected field %d", num)
		case len(e.attrs) == maxAttributes:
			return fmt.Errorf("more than %d attributes", maxAttributes)
		case num == ceAttributes:
			a, err := parseEntry(b)
			e.attrs = append(e.attrs, a)
			return err
		}
		name := [...]string{ceID: "id", ceSource: "source", ceSpecVersion: "specversion", ceType: "type"}[num]
		e.attrs = append(e.attrs, attribute{name, string(b), text})
		return nil
	})
	if err == nil && e.data == nil {
		err = errors.New("missing binary_data")
	}
	return e, err
}

// eachField calls set for each field of a message, with a number or with non-nil bytes. It rejects other wire types.
func eachField(msg []byte, set func(num protowire.Number, n uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return protowire.ParseError(size)
		}
		msg = msg[size:]
		var n uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(msg)
		default:
			return fmt.Errorf("field %d has unexpected wire type %d", num, typ)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		msg = msg[size:]
		if err := set(num, n, b); err != nil {
			return err
		}
	}
	return nil
}

// parseEntry parses one attribute and enforces the types of the format.
func parseEntry(entry []byte) (attribute, error) {
	a, seen := attribute{}, 0
	err := eachField(entry, func(num protowire.Number, _ uint64, b []byte) (err error) {
		switch {
		case num == entryName && b != nil:
			a.name, seen = string(b), seen+1
		case num == entryValue && b != nil:
			a.kind, a.value, err = parseValue(b)
			seen += 10
		default:
			err = fmt.Errorf("unexpected field %d of an attribute", num)
		}
		return err
	})
	switch {
	case err != nil:
		return a, err
	case seen != 11:
		return a, errors.New("an attribute is not one name and one value")
	case isOurs(a.name) && a.kind != kindOf(a.name):
		return a, malformedf("attribute", "%s has the wrong type", a.name)
	}
	return a, nil
}

// parseValue returns the canonical text of a value. Types that the format does not use occur only in unknown attributes.
func parseValue(value []byte) (k kind, s string, err error) {
	seen := 0
	err = eachField(value, func(num protowire.Number, n uint64, b []byte) error {
		seen++
		isBytes := b != nil
		if num > valueTimestamp || isBytes != (num >= valueString) {
			return fmt.Errorf("unexpected field %d of a value", num)
		}
		k = other
		switch num {
		case valueBoolean:
			s = strconv.FormatBool(n != 0)
		case valueInteger:
			k, s = integer, strconv.FormatInt(int64(n), 10)
			if int64(int32(n)) != int64(n) {
				return fmt.Errorf("integer %s has more than 32 bits", s)
			}
		case valueString:
			k, s = text, string(b)
		case valueBytes:
			s = base64.StdEncoding.EncodeToString(b)
		case valueURI, valueURIRef:
			s = string(b)
		case valueTimestamp:
			k = timestamp
			s, err = parseTimestamp(b)
			return err
		}
		return nil
	})
	if err == nil && seen != 1 {
		err = fmt.Errorf("a value has %d fields instead of one", seen)
	}
	return k, s, err
}

func parseTimestamp(b []byte) (string, error) {
	var part [timeNanos + 1]uint64
	err := eachField(b, func(num protowire.Number, n uint64, b []byte) error {
		if num > timeNanos || b != nil || part[num] != 0 {
			return fmt.Errorf("unexpected field %d of a time", num)
		}
		part[num] = n
		return nil
	})
	if err != nil {
		return "", err
	}
	seconds := int64(part[timeSeconds])
	if part[timeNanos] >= uint64(time.Second) || seconds < minSeconds || seconds > maxSeconds {
		return "", fmt.Errorf("%d s and %d ns is not a time", seconds, part[timeNanos])
	}
	return formatTime(time.Unix(seconds, int64(part[timeNanos]))), nil
}
