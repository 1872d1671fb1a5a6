package seal

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxAttributes bounds what is kept of a message before anybody vouches for it.
const maxAttributes = 64

// parse takes a message of either form apart. A JSON object begins with a brace, which no protobuf CloudEvent does.
//
// It does not use the SDK's readers: those fold the case of names and convert types, so that two different messages
// could have the same attributes, and what was authenticated would not be what was received.
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
		return nil, errors.New("it is not UTF-8")
	}
	if !json.Valid(msg) {
		return nil, errNotJSON
	}
	e := &envelope{}
	if err := eachMember(msg, e.setMember); err != nil {
		return nil, err
	}
	if e.data == nil {
		return nil, errors.New("it has neither data nor data_base64")
	}
	return e, nil
}

// setMember takes in one member of the object.
func (e *envelope) setMember(name string, raw json.RawMessage) (err error) {
	isData := name == "data" || name == "data_base64"
	switch {
	case isData && e.data != nil:
		return errors.New("it has data twice")
	case name == "data":
		e.data, e.inline = raw, true
		return nil
	case isData:
		e.data, err = parseBase64(raw)
		return err
	case len(e.attrs) == maxAttributes:
		return fmt.Errorf("it has more than %d attributes", maxAttributes)
	}
	a, err := parseAttribute(name, raw)
	e.attrs = append(e.attrs, a)
	return err
}

// parseBase64 is strict, so that no two texts stand for the same bytes.
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

// parseAttribute insists on the types of the format; unknown attributes of other types keep their JSON text.
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
