package intake

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Filters parses a comma-separated list of topic filters, as in Trigger.SubscribeTopics, and prefixes each with base. A filter covered by another one
// of the list is omitted, so that no event arrives twice. The error names every mistake.
func Filters(base, list string) ([]string, error) {
	var filters []string
	var errs []error
	for filter := range strings.SplitSeq(list, ",") {
		if filter = strings.TrimSpace(filter); filter == "" {
			continue
		}
		if err := checkFilter(filter); err != nil {
			errs = append(errs, fmt.Errorf("Trigger.SubscribeTopics = %q: %w", filter, err)) //nolint:staticcheck // begins with a key
		}
		if base != "" {
			filter = base + "/" + filter
		}
		filters = append(filters, filter)
	}
	if len(filters) == 0 {
		errs = append(errs, fmt.Errorf("Trigger.SubscribeTopics = %q: is empty, so no event would arrive; set it to \"events/#\"", list)) //nolint:staticcheck // begins with a key
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return withoutCovered(filters), nil
}

// withoutCovered omits filters that another filter covers, and keeps the order of the others.
func withoutCovered(filters []string) []string {
	var kept []string
	for i, f := range filters {
		covered := slices.ContainsFunc(filters, func(g string) bool { return g != f && Covers(g, f) }) || slices.Contains(filters[:i], f)
		if !covered {
			kept = append(kept, f)
		}
	}
	return kept
}

func checkFilter(filter string) error {
	if strings.ContainsAny(filter, "\x00\uFFFD") || len(filter) > 65535 {
		return errors.New("is not a topic of MQTT")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case strings.Contains(level, "#") && (level != "#" || i < len(levels)-1):
			return errors.New("# must be the whole of the last level, as in \"events/#\"")
		case strings.Contains(level, "+") && level != "+":
			return errors.New("+ must be the whole of a level, as in \"events/device/+/#\"")
		case strings.TrimSpace(level) == "":
			return errors.New("has an empty level; it begins without a slash, as in \"events/#\"")
		}
	}
	return nil
}

// FilterRemarks returns a sentence for each probable mistake in a valid list of filters: EdgeX publishes all events below "events", and adds the base
// prefix to each filter itself.
func FilterRemarks(base, list string) []string {
	var remarks []string
	for filter := range strings.SplitSeq(list, ",") {
		filter = strings.TrimSpace(filter)
		first, _, _ := strings.Cut(filter, "/")
		switch {
		case filter == "" || first == "events" || first == "#" || first == "+":
		case first == base:
			remarks = append(remarks, fmt.Sprintf("Trigger.SubscribeTopics = %q: begins with the base prefix %q, which is added to it once more; write it without", filter, base))
		default:
			remarks = append(remarks, fmt.Sprintf("Trigger.SubscribeTopics = %q: is not below \"events\", where EdgeX publishes every event; write it like \"events/#\"", filter))
		}
	}
	return remarks
}

// Covers reports whether filter matches every topic that other matches.
func Covers(filter, other string) bool {
	for {
		level, rest, more := strings.Cut(filter, "/")
		otherLevel, otherRest, otherMore := strings.Cut(other, "/")
		switch {
		case level == "#":
			return true
		case otherLevel == "#" || level != "+" && level != otherLevel:
			return false
		case !more && !otherMore:
			return true
		case !otherMore:
			return rest == "#" // which also matches the level above it
		case !more:
			return false
		}
		filter, other = rest, otherRest
	}
}

// MatchTopic reports whether a filter matches a topic, by the rules of MQTT.
func MatchTopic(filter, topic string) bool {
	if topic == "" || topic[0] == '$' && filter != "" && filter[0] != '$' {
		return false
	}
	return Covers(filter, topic)
}

// Flat returns the subscriptions for a bus other than MQTT, where '.' separates levels and '*' may match several: filters without '+' that do not
// overlap and together match all given ones, so that each message arrives once. Selects filters out the surplus.
func Flat(filters []string) []string {
	cut := make([]string, len(filters))
	for i, filter := range filters {
		cut[i] = filter
		if at := strings.Index("/"+filter+"/", "/+/"); at >= 0 {
			cut[i] = filter[:at] + "#"
		}
	}
	return withoutCovered(cut)
}

// Selects reports whether any of the filters matches a topic from a bus other than MQTT: such a bus turns a '.' in a name into a '/', so levels
// cannot be counted and '+' matches any text.
func Selects(filters []string, topic string) bool {
	topic = strings.ReplaceAll(topic, ".", "/")
	for _, filter := range filters {
		filter = strings.ReplaceAll(filter, ".", "/")
		if above, all := strings.CutSuffix(filter, "/#"); all && anyText(above, topic) {
			return true
		}
		if anyText(filter, topic) {
			return true
		}
	}
	return false
}

// anyText matches a filter with '+' and '#' for any text.
func anyText(filter, topic string) bool {
	parts := strings.FieldsFunc("\x00"+filter+"\x00", func(r rune) bool { return r == '+' || r == '#' })
	topic = "\x00" + topic + "\x00"
	for i, part := range parts {
		at := strings.Index(topic, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		topic = topic[at+len(part):]
	}
	return topic == ""
}
