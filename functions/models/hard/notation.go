package hard

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"app-offload/functions/check"
)

// Modes of a rule.
const (
	AfterRun  = "infer" // infer, then offload hard examples
	BeforeRun = "judge" // judge by the latest answers of the device, then either infer or offload
)

// Rule is a filter with its budget, as written in a class:
//
//	margin threshold=0.2 hourly=60 daily=500
//	energy share=0.1 mode=judge
type Rule struct {
	Filter        Config
	Hourly, Daily int    // maximum number of examples sent, 0 for no limit
	Mode          string // infer or judge
}

// ParseRule parses a rule: the name of a filter, then name=value, separated by blanks. "" and "none" give nil. It reports all problems together.
func ParseRule(text string) (*Rule, error) {
	words := strings.Fields(text)
	if len(words) == 0 || len(words) == 1 && words[0] == "none" {
		return nil, nil //nolint:nilnil // no rule
	}
	r := &Rule{Filter: Default(words[0]), Mode: AfterRun}
	var errs []error
	seen := map[string]bool{}
	for _, word := range words[1:] {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%.32q is not of the form name=value, such as threshold=0.2", word))
		case seen[name]:
			errs = append(errs, fmt.Errorf("%.32s is given twice", name))
		default:
			errs = append(errs, r.set(name, value))
		}
		seen[name] = true
	}
	errs = append(errs, r.validate())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

// set sets one parameter.
func (r *Rule) set(name, value string) error {
	var err error
	switch name {
	case "hourly":
		r.Hourly, err = strconv.Atoi(value)
	case "daily":
		r.Daily, err = strconv.Atoi(value)
	case "seed":
		r.Filter.Seed, err = strconv.ParseUint(value, 10, 64)
	case "mode":
		r.Mode = value
	default:
		at := map[string]*float64{
			"threshold": &r.Filter.Threshold, "box": &r.Filter.Box, "width": &r.Filter.Width, "temperature": &r.Filter.Temperature, "share": &r.Filter.Share,
		}[name]
		if at == nil {
			return fmt.Errorf("unknown parameter %.32q, expected threshold, box, width, temperature, seed, share, hourly, daily or mode", name)
		}
		*at, err = strconv.ParseFloat(value, 64)
	}
	if err != nil {
		return fmt.Errorf("%s=%.32s must be a number", name, value)
	}
	return nil
}

func (r *Rule) validate() error {
	p := check.In("")
	p.Add(r.Filter.Validate())
	check.Range(p, "hourly", r.Hourly, 0, 1_000_000)
	check.Range(p, "daily", r.Daily, 0, 1_000_000)
	p.OneOf("mode", check.Cut(r.Mode, 32), AfterRun, BeforeRun)
	return p.Err()
}
