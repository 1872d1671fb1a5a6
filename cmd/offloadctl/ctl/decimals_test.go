package ctl

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecimals(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 1.23456: "1.23", -0.001234: "-0.00123", 12.345: "12.3", 99.94: "99.9", 99.96: "100", 100: "100", -100: "-100", 123.6: "124",
		999999: "999999", -1234567.8: "-1234568", 999999999: "999999999", 1e9: "1e+09", -1.234e12: "-1.23e+12", 1e-6: "1e-06",
	} {
		require.Equal(t, want, decimals(v))
	}
}
