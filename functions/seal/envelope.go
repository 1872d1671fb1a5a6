package seal

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/binding/format/protobuf/v2"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"google.golang.org/protobuf/proto"
)

// The types of messages, and the media types of their payloads. The payload of the protobuf form is not named
// application/protobuf: the CloudEvents SDK would then expect a google.protobuf.Any instead of bytes.
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

// nodeSource is the source attribute of what a node sends, cloudSource that of what is sent to it.
func nodeSource(node string) string  { return sourceNode + url.PathEscape(node) }
func cloudSource(node string) string { return sourceCloud + url.PathEscape(node) }

// consumerSource is the source attribute of what a consumer says to all nodes.
func consumerSource(consumer string) string { return sourceConsumer + url.PathEscape(consumer) }

// nodeOf reverses nodeSource or cloudSource; only the canonical spelling is accepted.
func nodeOf(source, root string) (string, error) {
	node, err := url.PathUnescape(strings.TrimPrefix(source, root))
	if err != nil || !strings.HasPrefix(source, root) || root+url.PathEscape(node) != source || !isText(node) {
		return "", malformedf("attributes", "source %q is not %s and the escaped name of a node", source, root)
	}
	return node, nil
}

// formatTime is the one spelling of an instant in messages: UTC, with as many digits as it needs.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// isTime reports whether RFC 3339 and protobuf can write the instant.
func isTime(t time.Time) bool { return t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 }

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || formatTime(t) != s {
		return time.Time{}, malformedf("attributes", "time %q is not in UTC with the fewest digits", s)
	}
	return t.UTC(), nil
}

// envelope is a message taken apart: what CloudEvents calls context and data.
type envelope struct {
	attrs  attributes
	data   []byte
	inline bool // data is a JSON value in the message itself; otherwise it is binary
}

// appendTo writes the message in one of the two forms.
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
	// A fixed order of the attributes makes equal batches equal bytes, which golden files rely on.
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, msg)
}

// event is the envelope as the CloudEvents SDK has it.
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
