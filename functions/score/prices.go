package score

import (
	"errors"
	"fmt"
)

// Price is the price of a class's tasks set by the owner of a fleet, in units of a currency.
type Price struct {
	MB      float64 `json:"mb,omitempty"`      // paid for a MB (10⁶ bytes) that the cloud receives and stores
	Compute float64 `json:"compute,omitempty"` // paid for a task that the cloud computes
	Earn    float64 `json:"earn,omitempty"`    // earned for a task that the node computes, and whose result the cloud has received
}

// Prices are prices by name of class; the price of default applies to all other classes.
type Prices map[string]Price

const maxPrice = 1e6

// Check reports a price that is not a finite number of at least 0.
func (p Prices) Check() error {
	if len(p) > maxClasses {
		return fmt.Errorf("prices of %d classes, at most %d are allowed", len(p), maxClasses)
	}
	for class, one := range p {
		for _, v := range [...]float64{one.MB, one.Compute, one.Earn} {
			if !(v >= 0 && v <= maxPrice) { // also rejects NaN
				return fmt.Errorf("the prices of class %.64q are %+v: each must be from 0 to %g", class, one, float64(maxPrice))
			}
		}
		if class == "" {
			return errors.New("the price of a class without a name is not allowed")
		}
	}
	return nil
}

// Of returns the price of a class.
func (p Prices) Of(class string) Price {
	if own, known := p[class]; known {
		return own
	}
	return p["default"]
}

// Publish lets predictions count valid prices as money if Config.Credits is set; nil removes them. It is safe for concurrent use.
func (m *Model) Publish(p Prices) { m.prices.Store(&p) }

// Credits reports whether published prices count.
func (m *Model) Credits() bool { return m.c.Credits }
