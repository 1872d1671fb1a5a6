package ctl

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"app-offload/functions/check"
	"app-offload/functions/intake"
)

// EdgeX's own sections, and the allowed values of the two sections that every user changes.
var (
	edgexSections = []string{section, "Writable", "Service", "Registry", "Clients", "Database", "MessageBus", "Trigger", "HttpServer", "ApplicationSettings", "SecretStore", "MaxResultCount"}
	triggerKeys   = []string{"Type", "SubscribeTopics", "PublishTopic", "ExternalMqtt"}
	triggerTypes  = []string{"offload", "edgex-messagebus", "external-mqtt", "http"}
	logLevels     = []string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR"}
)

// edgexFile is the part of EdgeX's own sections that this file may contain, with the SDK's types: the SDK rejects other types or panics. The SDK
// itself is not linked into this tool.
type edgexFile struct {
	Writable struct {
		LogLevel  string
		Telemetry struct {
			Interval string
			Metrics  map[string]bool
			Tags     map[string]string
		}
		InsecureSecrets map[string]struct {
			SecretName string
			SecretData map[string]string
		}
	}
	Service struct {
		HealthCheckInterval, Host, ServerBindAddr, StartupMsg, RequestTimeout string
		Port, MaxResultCount, MaxRequestSize                                  int
		EnableNameFieldEscape                                                 bool
	}
	Clients map[string]struct {
		Host, Protocol string
		Port           int
		UseMessageBus  bool
	}
	Registry struct {
		Host, Type string
		Port       int
	}
	MessageBus struct {
		Disabled                                                    bool
		Type, Protocol, Host, AuthMode, SecretName, BaseTopicPrefix string
		Port                                                        int
		Optional                                                    map[string]string
	}
	Trigger             struct{ Type, SubscribeTopics, PublishTopic string }
	ApplicationSettings map[string]string
}

// typed checks the types of a section and its values. Unknown names are checked elsewhere.
func (e *effective) typed(path []string, typ reflect.Type, in any) {
	isSection := typ.Kind() == reflect.Struct || typ.Kind() == reflect.Map
	values, ok := in.(map[string]any)
	switch {
	case isSection && !ok:
		e.wrong(path, in, "is a section; indent its keys below it, or remove it")
	case !isSection && in != nil:
		if expected := assign(reflect.New(typ).Elem(), in); expected != "" {
			e.wrong(path, in, "must be "+expected)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key := append(slices.Clip(path), name)
		if typ.Kind() == reflect.Map {
			e.typed(key, typ.Elem(), values[name])
		} else if field, known := typ.FieldByNameFunc(func(f string) bool { return strings.EqualFold(f, name) }); known {
			e.typed(key, field.Type, values[name])
		}
	}
}

// surroundings checks EdgeX's own sections as far as the service depends on them and the file or the environment sets them; the common configuration
// sets the rest.
func (e *effective) surroundings(raw []byte, environ []string) {
	var whole map[string]any
	if yaml.Unmarshal(raw, &whole) != nil {
		return // readConfig has reported it
	}
	e.typed(nil, reflect.TypeFor[edgexFile](), whole)
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
	level := keyOf(writable, "LogLevel")
	if _, given := writable["LogLevel"]; given && level == nil {
		level = "" // rejected by EdgeX, too
	}
	e.oneOf([]string{"Writable", "LogLevel"}, level, environ, logLevels)
	telemetry := keyOf(writable, "Telemetry")
	e.within([]string{"Writable", "Telemetry", "Interval"}, keyOf(telemetry, "Interval"), environ, func(text string) string {
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return `must be a duration such as "30s", or "0s" for none`
		}
		return ""
	})
	e.within([]string{"Service", "Port"}, keyOf(keyOf(whole, "Service"), "Port"), environ, func(text string) string {
		if n, err := strconv.Atoi(text); err != nil || n < 0 || n > math.MaxUint16 {
			return "must be a whole number from 0 to 65535"
		}
		return ""
	})
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

// unknown adds a remark on a name that EdgeX ignores and that is close to a known one.
func (e *effective) unknown(path, known []string) {
	if hint := check.DidYouMean(path[len(path)-1], known); hint != "" {
		e.remarks = append(e.remarks, fmt.Sprintf("%s: %s is not a key of EdgeX and is ignored%s", e.where(path), strings.Join(path, "."), hint))
	}
}

// given returns the value of one of EdgeX's own keys and its source; the environment overrides the file.
func (e *effective) given(path []string, value any, environ []string) (text, source string, ok bool) {
	name := strings.ToUpper(strings.Join(path, "_")) + "="
	for _, entry := range environ {
		if text, found := strings.CutPrefix(entry, name); found {
			return text, strings.TrimSuffix(name, "="), true
		}
	}
	key := strings.Join(path, ".")
	if value == nil || slices.ContainsFunc(e.problems, func(p problem) bool { return p.Key == key }) { // already reported as a wrong type
		return "", "", false
	}
	return fmt.Sprint(value), e.where(path), true
}

// within checks a value; wrong returns the problem, "" for a valid value.
func (e *effective) within(path []string, value any, environ []string, wrong func(text string) string) {
	if text, source, given := e.given(path, value, environ); given {
		if what := wrong(text); what != "" {
			e.problems = append(e.problems, problem{Source: source, Key: strings.Join(path, "."), Value: strconv.Quote(text), Problem: what})
		}
	}
}

func (e *effective) oneOf(path []string, value any, environ, words []string) {
	e.within(path, value, environ, func(text string) string {
		if slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, text) }) {
			return ""
		}
		return "must be one of " + strings.Join(words, ", ") + check.DidYouMean(text, words)
	})
}

// topics checks the topic filters as the service does when it starts.
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
