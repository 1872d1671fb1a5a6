package ctl

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"app-offload/functions/check"
	"app-offload/functions/intake"
)

// The sections of EdgeX's own beside ours, and what may stand in the two that every user changes.
var (
	edgexSections = []string{section, "Writable", "Service", "Registry", "Clients", "Database", "MessageBus", "Trigger", "HttpServer", "ApplicationSettings", "SecretStore", "MaxResultCount"}
	triggerKeys   = []string{"Type", "SubscribeTopics", "PublishTopic", "ExternalMqtt"}
	triggerTypes  = []string{"offload", "edgex-messagebus", "external-mqtt", "http"}
	logLevels     = []string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR"}
)

// surroundings checks what of EdgeX's own sections the service depends on, as far as the file or the environment says it: the rest comes
// from the common configuration.
func (e *effective) surroundings(raw []byte, environ []string) {
	var whole map[string]any
	if yaml.Unmarshal(raw, &whole) != nil {
		return // readConfig has said so
	}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		if !slices.ContainsFunc(edgexSections, func(s string) bool { return strings.EqualFold(s, name) }) {
			e.unknown([]string{name}, edgexSections)
		}
	}
	trigger, _ := keyOf(whole, "Trigger").(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(trigger)) {
		if !slices.ContainsFunc(triggerKeys, func(s string) bool { return strings.EqualFold(s, name) }) {
			e.unknown([]string{"Trigger", name}, triggerKeys)
		}
	}
	e.oneOf([]string{"Trigger", "Type"}, keyOf(trigger, "Type"), environ, triggerTypes)
	writable, _ := keyOf(whole, "Writable").(map[string]any)
	e.oneOf([]string{"Writable", "LogLevel"}, keyOf(writable, "LogLevel"), environ, logLevels)
	e.topics(keyOf(whole, "MessageBus"), keyOf(trigger, "SubscribeTopics"), environ)
}

// keyOf finds a key in any case, nil if it is missing.
func keyOf(section any, name string) any {
	values, _ := section.(map[string]any)
	for key, value := range values {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return nil
}

// unknown remarks on a name that EdgeX ignores, where it is close to one that it knows.
func (e *effective) unknown(path, known []string) {
	if hint := check.DidYouMean(path[len(path)-1], known); hint != "" {
		e.remarks = append(e.remarks, fmt.Sprintf("%s: %s is no key of EdgeX and is ignored%s", e.where(path), strings.Join(path, "."), hint))
	}
}

// given is the value of a key of EdgeX's own, and where it comes from: the environment stands above the file.
func (e *effective) given(path []string, value any, environ []string) (text, source string, ok bool) {
	name := strings.ToUpper(strings.Join(path, "_")) + "="
	for _, entry := range environ {
		if text, found := strings.CutPrefix(entry, name); found {
			return text, strings.TrimSuffix(name, "="), true
		}
	}
	if value == nil {
		return "", "", false
	}
	return fmt.Sprint(value), e.where(path), true
}

func (e *effective) oneOf(path []string, value any, environ, words []string) {
	text, source, given := e.given(path, value, environ)
	if !given || slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, text) }) {
		return
	}
	e.problems = append(e.problems, problem{
		Source: source, Key: strings.Join(path, "."), Value: strconv.Quote(text),
		Problem: "must be one of " + strings.Join(words, ", ") + check.DidYouMean(text, words),
	})
}

// topics checks the filters as the service does at its start.
func (e *effective) topics(bus, value any, environ []string) {
	path := []string{"Trigger", "SubscribeTopics"}
	list, source, given := e.given(path, value, environ)
	if !given {
		return
	}
	base, _ := keyOf(bus, "BaseTopicPrefix").(string)
	if base == "" {
		base = "edgex"
	}
	if _, err := intake.Filters(base, list); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, rest, _ := strings.Cut(line, " = ")
			value, _ := strconv.QuotedPrefix(rest)
			e.problems = append(e.problems, problem{
				Source: source, Key: "Trigger.SubscribeTopics", Value: value, Problem: strings.TrimPrefix(rest[len(value):], ": "), Example: `SubscribeTopics: "events/#"`,
			})
		}
		return
	}
	for _, remark := range intake.FilterRemarks(base, list) {
		e.remarks = append(e.remarks, source+": "+remark)
	}
}
