package score

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // an image without an operating system has no time zones

	"app-offload/functions/clock"
)

const (
	dayHours = 24
	week     = 7 * dayHours
)

// tariff is the price of a MB in each hour of a week that begins on Sunday.
type tariff struct {
	prices [week]float64
	zone   *time.Location
}

var days = []string{"Su", "Mo", "Tu", "We", "Th", "Fr", "Sa"}

// parseTariff reads MoneyPerMB; it returns nil for an empty text.
func parseTariff(text string) (*tariff, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	t := &tariff{}
	for i, part := range strings.Split(text, ";") {
		words := strings.Fields(part)
		if i == 0 && len(words) == 1 {
			words = []string{"Su-Sa", "00-24", words[0]}
		}
		if len(words) != 3 {
			return nil, fmt.Errorf("invalid price with days and hours %q; write it like \"0.02; Mo-Fr 08-18 0.1\"", strings.TrimSpace(part))
		}
		if err := t.set(words[0], words[1], words[2]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tariff) set(dayText, hourText, priceText string) error {
	price, err := strconv.ParseFloat(priceText, 64)
	if err != nil || !(price >= 0) || math.IsInf(price, 0) {
		return fmt.Errorf("invalid price %q; write a number of 0 or more", priceText)
	}
	from, to, err := hours(hourText)
	if err != nil {
		return err
	}
	for one := range strings.SplitSeq(dayText, ",") {
		first, last, ranged := strings.Cut(one, "-")
		if !ranged {
			last = first
		}
		a, b := slices.Index(days, first), slices.Index(days, last)
		if a < 0 || b < 0 {
			return fmt.Errorf("invalid days %q; write them like Mo-Fr or Sa,Su", one)
		}
		for day := a; ; day = (day + 1) % len(days) {
			for hour := range dayHours {
				if in := hour >= from && hour < to; in && from < to || from > to && (hour >= from || hour < to) {
					t.prices[day*dayHours+hour] = price
				}
			}
			if day == b {
				break
			}
		}
	}
	return nil
}

// hours parses "08-18". If the first hour is the later one, the span is the end and the beginning of the same day.
func hours(text string) (from, to int, err error) {
	first, last, _ := strings.Cut(text, "-")
	from, errFrom := strconv.Atoi(first)
	to, errTo := strconv.Atoi(last)
	if errors.Join(errFrom, errTo) != nil || from < 0 || from > dayHours || to < 0 || to > dayHours || from == to {
		return 0, 0, fmt.Errorf("invalid hours %q; write them like 08-18 or 22-06", text)
	}
	return from, to, nil
}

// at returns the price at a time.
func (t *tariff) at(now time.Time) float64 {
	now = now.In(t.zone)
	return t.prices[int(now.Weekday())*dayHours+now.Hour()]
}

// Price returns the price of a MB on the uplink at a timestamp of the clock, 0 where no price is configured.
func (m *Model) Price(c *clock.Clock, stamp int64) float64 {
	if m.tariff == nil {
		return 0
	}
	return m.tariff.at(c.Wall(stamp))
}
