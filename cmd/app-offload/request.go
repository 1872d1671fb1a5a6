package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"app-offload/functions/check"
	"app-offload/functions/policy"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 64 << 10

// unknown is the error for an unknown parameter or key, with the known ones.
func unknown(what, name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown %s %s: there is none here", what, quoted(name))
	}
	return fmt.Errorf("unknown %s %s%s; there are: %s", what, quoted(name), check.DidYouMean(name, known), strings.Join(known, ", "))
}

// checkQuery refuses parameters that the route does not have, and those that are given twice or cannot be read: to answer a question
// that was not understood would look like an answer to it.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("the query %s cannot be read: %w", quoted(r.URL.RawQuery), err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return unknown("parameter", name, known)
		}
		if len(query[name]) > 1 {
			return fmt.Errorf("the parameter %s is given %d times; give it once", name, len(query[name]))
		}
	}
	return nil
}

// checkFilters refuses targets and policies that there are not.
func checkFilters(c echo.Context) error {
	if t := c.QueryParam("target"); t != "" && t != "local" && t != "cloud" {
		return fmt.Errorf("target = %s: must be local or cloud", quoted(t))
	}
	if p := c.QueryParam("policy"); p != "" {
		return policy.Known(p)
	}
	return nil
}

// readObject reads the body of a request, a JSON object with some of the known keys, each at most once.
func readObject(c echo.Context, known []string) (map[string]json.RawMessage, error) {
	r := c.Request()
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, fmt.Errorf("Content-Type = %s: must be application/json", quoted(r.Header.Get("Content-Type"))) //nolint:staticcheck // begins with a header
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxRequest))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	fields, err := objectOf(raw, known)
	if err != nil {
		return nil, fmt.Errorf("the body is not {%s}: %w", strings.Join(known, ", "), err)
	}
	return fields, nil
}

func objectOf(raw []byte, known []string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := d.Token(); err != nil {
		return nil, syntaxError(err)
	} else if begin != json.Delim('{') {
		return nil, errors.New("it must be one JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, syntaxError(err)
		}
		key := token.(string) // the decoder lets nothing else be a key
		if !slices.Contains(known, key) {
			return nil, unknown("key", key, known)
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("the key %s is given twice", key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, syntaxError(err)
		}
		fields[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, syntaxError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return fields, nil
}

func syntaxError(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it ends too early")
	}
	return err
}

// read decodes one field, if it is there, and says which one has the wrong kind of value.
func read[T any](p *check.Problems, fields map[string]json.RawMessage, key, kind string, into *T) {
	raw, ok := fields[key]
	if !ok {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil || string(raw) == "null" {
		p.Addf(key, strings.Trim(quoted(string(raw)), `"`), "must be %s", kind)
	}
}
