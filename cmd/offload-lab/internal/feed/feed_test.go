package feed

import (
	"bytes"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Equal seeds give equal signals, and different seeds different ones.
func TestSignalsAreThoseOfTheSeed(t *testing.T) {
	stream := func(seed uint64) (payloads, truths bytes.Buffer) {
		sources := []Source{newVibration(rand.New(rand.NewPCG(seed, 1))), newCamera(rand.New(rand.NewPCG(seed, 2)))}
		require.NoError(t, Generate(sources, time.Unix(1_800_000_000, 0), 3*time.Second, func(m Message) error {
			require.NotNil(t, m.Event.Truth)
			require.Equal(t, m.Event.ID, m.Event.Truth.Event)
			require.NoError(t, WriteTruth(&truths, m))
			return Write(&payloads, m)
		}))
		return payloads, truths
	}
	a, aTruth := stream(7)
	b, bTruth := stream(7)
	c, _ := stream(8)
	require.True(t, bytes.Equal(a.Bytes(), b.Bytes()))
	require.Equal(t, aTruth.String(), bTruth.String())
	require.False(t, bytes.Equal(a.Bytes(), c.Bytes()))
	require.NotContains(t, a.String(), "severity", "the truth stays with the feed")
	require.NotContains(t, a.String(), "healthy")
}

// A frame is a JPEG within the camera's sizes. FEED_PICTURES is a folder to save some for viewing.
func TestFramesArePictures(t *testing.T) {
	c := newCamera(rand.New(rand.NewPCG(5, 2)))
	seen := map[string]int{}
	for i := range 60 {
		e := c.Next(time.Unix(1_800_000_000, 0))
		b := e.Readings[0].BinaryValue
		require.GreaterOrEqual(t, len(b), 20_000)
		require.LessOrEqual(t, len(b), 300_000)
		head, err := jpeg.DecodeConfig(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, head.Height*4/3, head.Width)
		seen[e.Truth.Label]++
		if dir := os.Getenv("FEED_PICTURES"); dir != "" && i < 24 {
			require.NoError(t, os.WriteFile(dir+"/"+string(rune('a'+i))+"-"+e.Truth.Label+".jpg", b, 0o600))
		}
	}
	for _, label := range PartLabels {
		require.Greater(t, seen[label], 3, label)
	}
	for len(c.frames) < maxFrames {
		c.frames = append(c.frames, c.frames...)
	}
	c.frames = c.frames[:maxFrames]
	again := c.Next(time.Unix(1_800_000_000, 0))
	require.True(t, slices.ContainsFunc(c.frames, func(f frame) bool { return bytes.Equal(f.jpeg, again.Readings[0].BinaryValue) }))
	require.Len(t, c.frames, maxFrames)
}

// Faults strike at their own frequencies: the envelope of a window has its peak there.
func TestFaultsStrikeInTheirRhythm(t *testing.T) {
	for state, f := range faults {
		b := NewBearing(rand.New(rand.NewPCG(3, 9)))
		var x [1 << 15]float64
		mean := 0.0
		for i := range x {
			b.Sample(state, 1)
			x[i] = math.Abs(b.ring)
			mean += x[i] / float64(len(x))
		}
		power := func(hz float64) float64 {
			sin, cos := 0.0, 0.0
			for i, v := range x {
				s, c := math.Sincos(2 * math.Pi * hz * float64(i) / sampleHz)
				sin, cos = sin+(v-mean)*s, cos+(v-mean)*c
			}
			return math.Hypot(sin, cos)
		}
		around := func(turns float64) (most float64) { // the speed drifts, so the peak is broad
			for hz := turns * shaftHz * 0.97; hz < turns*shaftHz*1.03; hz += 0.3 {
				most = max(most, power(hz))
			}
			return most
		}
		for other, g := range faults {
			if other != state {
				require.Greater(t, around(f.strikes), 2*around(g.strikes), "%s against %s", state, other)
			}
		}
	}
}

// A bearing is healthy most of the time, and each fault occurs.
func TestVibrationHasAllStates(t *testing.T) {
	v := newVibration(rand.New(rand.NewPCG(2, 1)))
	seen := map[string]int{}
	for range 10_000 {
		for range window {
			v.sample()
		}
		seen[v.label()]++
	}
	require.Equal(t, map[string]int{Healthy: 8018, Inner: 830, Outer: 463, Ball: 689}, seen)
}
