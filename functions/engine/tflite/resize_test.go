package tflite

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Both definitions of the position of an output pixel between two input pixels agree, stay within the image and keep its corners.
func TestPixelsBetweenPixels(t *testing.T) {
	for _, c := range []struct {
		out, in       int
		aligned, half bool
	}{{8, 4, false, false}, {8, 4, true, false}, {8, 4, false, true}, {3, 7, false, true}, {1, 5, true, false}, {5, 1, false, true}, {7, 7, true, false}, {224, 96, false, true}} {
		scale := float32(c.in) / float32(c.out)
		if c.aligned && c.out > 1 {
			scale = float32(c.in-1) / float32(c.out-1)
		}
		real, fixed := betweens(c.out, c.in, scale, c.half), betweensFixed(c.out, c.in, c.aligned, c.half)
		for i := range real {
			for _, b := range []between{real[i], fixed[i]} {
				require.GreaterOrEqual(t, b.low, 0, "%+v at %d", c, i)
				require.Less(t, max(b.low, b.high), c.in, "%+v at %d", c, i)
			}
			at, steps := float64(real[i].low)+float64(real[i].float), float64(fixed[i].low)+float64(fixed[i].fixed)/1024
			require.InDelta(t, at, steps, float64(c.out)/1024+1.0/512, "%+v at %d", c, i)
		}
		if c.aligned && c.out > 1 {
			require.InDelta(t, float64(c.in-1), math.Round(float64(real[c.out-1].low)+float64(real[c.out-1].float)), 1e-6)
		}
	}
	require.Equal(t, int8(3), mix(1, 1, 5, 5, 0, 512))
	require.Equal(t, int8(-3), mix(-2, -3, -2, -3, 512, 0), "halves go away from zero")
}
