package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every parameter accepts its documented range, including the ends, and rejects the values just beyond, by name.
func TestParametersKeepTheirRanges(t *testing.T) {
	const name64 = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	seventeen := strings.Repeat("1,2,3,4,", 4) + "5"
	untested := map[string]bool{"burn resource": true, "burn name": true} // common to all operators
	for _, op := range operators {
		for _, p := range op.Params {
			untested[op.Name+" "+p.Name] = true
		}
	}
	for _, tc := range []struct{ operator, parameter, good, bad string }{
		{"summary", "window", "10ms 24h", "9999999ns 24h1ns 60 x"},
		{"summary", "slide", "0s 60s", "-1ns 24h1ns 25s 1"},
		{"summary window=1m", "late", "0s 10m", "-1ns 10m1ns 240h1ns x"},
		{"summary window=24h slide=24h", "late", "240h", "240h1ns"},
		{"summary window=1024s late=0s", "slide", "1s", "500ms"},
		{"summary window=512s late=512s", "slide", "1s", "500ms"},
		{"summary", "percentiles", " 0 100 0.5 50,95,99 50,, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "-1 100.1 x NaN 50,x " + seventeen},
		{"summary", "samples", "16 1000000", "15 1000001 1.5 x "},
		{"deadband", "band", "0 1e308", "-1 NaN Inf x "},
		{"deadband", "percent", "0 1000000", "-1 1000001 NaN x "},
		{"deadband band=1", "percent", "0", "1"},
		{"deadband", "max", "0s 24h", "-1ns 24h1ns x"},
		{"deadtime", "time", "1ms 24h", "999999ns 24h1ns x "},
		{"range high=1e308", "low", " -1e308 1e308", "NaN -Inf Inf x"},
		{"range", "high", "-1e308 1e308", "NaN -Inf Inf x"},
		{"range high=3", "low", "3 -1", "3.1"},
		{"range low=1 high=2", "hysteresis", "0 0.5", "-1 0.51 NaN x "},
		{"range low=1", "hysteresis", "1e308", "-1 NaN x"},
		{"rate", "over", "0s 24h", "-1ns 24h1ns x"},
		{"rate", "counter", "true false", "maybe 2"},
		{"rate", "limit", "0 1e308", "-1 NaN x "},
		{"anomaly", "above", "0.01 0.99", "0.009 0.991 NaN x "},
		{"anomaly", "warmup", "10 1000000", "9 1000001 x"},
		{"anomaly", "short", "1 49", "0.9 50 NaN x "},
		{"anomaly", "medium", "6 199", "200 1000001 NaN x "},
		{"anomaly", "long", "51 1000000", "1000001 NaN x "},
		{"anomaly", "memory", "0 1e9", "-1 1.1e9 NaN x "},
		{"burn", "each", "0s 1s", "-1ns 1s1ns x"},
		{"burn", "clock", "cpu elapsed", "wall"},
		{"burn", "most", "1ms 1h", "999999ns 1h1ns x"},
		{"burn", "resource", "* a*b", "["},
		{"burn", "name", " x " + name64, "a/b a.b é " + name64 + "a"},
	} {
		// An empty entry is an empty value: the text begins or ends with a blank.
		texts := map[string]bool{}
		for value := range strings.SplitSeq(tc.good, " ") {
			chains, err := parse(tc.operator + " " + tc.parameter + "=" + value)
			require.NoError(t, err, tc.operator)
			require.NotContains(t, texts, chains[0].text, "a reload would not notice the change")
			texts[chains[0].text] = true
		}
		for value := range strings.SplitSeq(tc.bad, " ") {
			err := CheckOperators(tc.operator + " " + tc.parameter + "=" + value)
			require.NotContains(t, err.Error(), "1.797", "a bound without an end")
			require.ErrorContains(t, err, fmt.Sprintf("operator %q, parameter %s = %q: ", strings.Fields(tc.operator)[0], tc.parameter, value))
		}
		delete(untested, strings.Fields(tc.operator)[0]+" "+tc.parameter)
	}
	require.Empty(t, untested)
}
