package seal

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/binding/format/protobuf/v2"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"google.golang.org/protobuf/proto"

	"app-offload/functions/check"
)

// The types of messages, and the media types of their payloads. The payload of the protobuf form is not application/protobuf: for that type the
// CloudEvents SDK expects a google.protobuf.Any instead of bytes.
const (
	typeBatch   = "offload.batch.v1"
	typeReceipt = "offload.receipt.v1"
	typeGone    = "offload.gone.v1"
	typeResult  = "offload.result.v1"
	typeConfirm = "offload.confirm.v1"

	typeAnnouncement = "offload.consumer.v1"

	mediaJSON     = "application/json"
	mediaProtobuf = "application/x-protobuf"

	sourceRoot  = "/" + TopicRoot
	sourceCloud = sourceRoot + "cloud/"
	sourceNode  = sourceRoot + "node/"

	sourceConsumer = sourceRoot + "consumer/"
)

// nodeSource returns the source attribute of messages from a node, cloudSource that of messages to it.
func nodeSource(node string) string  { return sourceNode + url.PathEscape(node) }
func cloudSource(node string) string { return sourceCloud + url.PathEscape(node) }

// nodeOf reverses nodeSource or cloudSource. It accepts only the canonical spelling.
func nodeOf(source, root string) (string, error) {
	node, err := url.PathUnescape(strings.TrimPrefix(source, root))
	if err != nil || !strings.HasPrefix(source, root) || root+url.PathEscape(node) != source || !isText(node) {
		return "", malformedf("attributes", "source %q is not %s and the escaped name of a node", source, root)
	}
	return node, nil
}

// formatTime returns the canonical spelling of a time in messages: UTC, with as few digits as needed.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// isTime reports whether RFC 3339 and protobuf can represent the time.
func isTime(t time.Time) bool { return t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 }

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || formatTime(t) != s {
		return time.Time{}, malformedf("attributes", "time %q is not in UTC with the fewest digits", s)
	}
	return t.UTC(), nil
}

// envelope is a parsed message: the context and data of CloudEvents.
type envelope struct {
	attrs  attributes
	data   []byte
	inline bool // data is a JSON value in the message itself; otherwise it is binary
}

// appendTo appends the message in one of the two forms.
func (e *envelope) appendTo(dst []byte, form string) ([]byte, error) {
	ce, err := e.event()
	if err != nil {
		return dst, err
	}
	if form == FormJSON {
		out := appender{dst}
		err := event.WriteJson(ce, &out)
		return out.b, err
	}
	msg, err := format.ToProto(ce)
	if err != nil {
		return dst, err
	}
	// A fixed order of the attributes makes the bytes of equal batches equal, on which golden files rely.
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, msg)
}

// event returns the envelope as an event of the CloudEvents SDK.
func (e *envelope) event() (*event.Event, error) {
	ctx := &event.EventContextV1{Extensions: make(map[string]any, len(e.attrs))}
	for i := range e.attrs {
		if err := setAttribute(ctx, &e.attrs[i]); err != nil {
			return nil, fmt.Errorf("setting attribute %s to %q: %w", e.attrs[i].name, e.attrs[i].value, err)
		}
	}
	return &event.Event{Context: ctx, DataEncoded: e.data, DataBase64: !e.inline}, nil
}

func setAttribute(ctx *event.EventContextV1, a *attribute) (err error) {
	switch a.name {
	case "specversion":
	case "id":
		ctx.ID = a.value
	case "source":
		if ref := types.ParseURIRef(a.value); ref != nil {
			ctx.Source = *ref
		}
	case "type":
		ctx.Type = a.value
	case "subject":
		ctx.Subject = &a.value
	case "datacontenttype":
		ctx.DataContentType = &a.value
	case "time":
		ctx.Time, err = types.ParseTimestamp(a.value)
	default:
		ctx.Extensions[a.name], err = a.extension()
	}
	return err
}

func (a *attribute) extension() (any, error) {
	if a.kind != integer {
		return a.value, nil
	}
	n, err := strconv.ParseInt(a.value, 10, 32)
	return int32(n), err
}

// kind is the CloudEvents type of an attribute. Both forms of a message must have the same type.
type kind uint8

const (
	text kind = iota
	integer
	timestamp
	other // of an attribute that the format does not define
)

// attribute is one context attribute with its canonical text, which is equal in both forms.
type attribute struct {
	name, value string
	kind        kind
}

// attributes are all context attributes of a message, ascending by name and without duplicates.
type attributes []attribute

// kindOf returns the type that an attribute of this format has; attributes not listed are text.
func kindOf(name string) kind {
	switch name {
	case "count":
		return integer
	case "time":
		return timestamp
	}
	return text
}

// isOurs reports whether the format defines the type of an attribute.
func isOurs(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
		"epoch", "session", "sequence", "count", "floor", "contentencoding", "cipher", "keyid":
		return true
	}
	return false
}

// newAttributes sorts pairs of names and values. It omits attributes with empty values.
func newAttributes(pairs ...string) attributes {
	a := make(attributes, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			a = append(a, attribute{pairs[i], pairs[i+1], kindOf(pairs[i])})
		}
	}
	a.sort()
	return a
}

func (a attributes) sort() {
	slices.SortFunc(a, func(x, y attribute) int { return cmp.Compare(x.name, y.name) })
}

// get returns the value of an attribute, or "".
func (a attributes) get(name string) string {
	for i := range a {
		if a[i].name == name {
			return a[i].value
		}
	}
	return ""
}

// validate checks what both forms require: lower-case names, printable text, no duplicates.
func (a attributes) validate() error {
	for i := range a {
		if i > 0 && a[i].name == a[i-1].name {
			return malformedf("attributes", "duplicate attribute %q", a[i].name)
		}
		if !isName(a[i].name) || !isText(a[i].value) {
			return malformedf("attributes", "%q = %q", a[i].name, a[i].value)
		}
	}
	return nil
}

// appendAAD appends the canonical encoding that is authenticated with the payload: see "Authenticated attributes" in FORMAT.md. Lengths make it
// unambiguous, so that no value can pose as the end of another.
func (a attributes) appendAAD(dst []byte) []byte {
	dst = append(dst, "offload-aad-v1\n"...)
	for i := range a {
		dst = append(dst, a[i].name...)
		dst = append(dst, '=')
		dst = strconv.AppendInt(dst, int64(len(a[i].value)), 10)
		dst = append(dst, ':')
		dst = append(dst, a[i].value...)
		dst = append(dst, '\n')
	}
	return dst
}

// isName reports whether s is a valid name of a CloudEvents attribute.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// IsText reports whether s is valid in a message as the name of a node, class, key or consumer. Callers check such names with it, so that they accept
// none that cannot be sealed later.
func IsText(s string) bool { return isText(s) }

// isText reports whether s is a non-empty CloudEvents string.
func isText(s string) bool { return check.Printable(s) }
