package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/host"
)

// The signals of a seed never change: models were trained on them. Each block of a part is reduced to mean and deviation.
func TestASeedGivesWhatItAlwaysGave(t *testing.T) {
	var b strings.Builder
	for _, state := range BearingStates {
		bearing := NewBearing(rand.New(rand.NewPCG(3, 4)))
		var square, fourth float64
		const n = 20_000
		for range n {
			v := math.Pow(float64(bearing.Sample(state, 0.8)), 2)
			square, fourth = square+v/n, fourth+v*v/n
		}
		fmt.Fprintf(&b, "bearing %s: effective %.4f, kurtosis %.3f, shaft %.4f Hz\n", state, math.Sqrt(square), fourth/square/square, bearing.Speed())
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 15 {
		p := NewPart(rng)
		fmt.Fprintf(&b, "%s contrast %.3f shadow %.3f blur %.4f:", p.Label, p.Contrast, p.Shadow, p.Blur)
		img := p.Draw(96, rng)
		for block := range 12 {
			var mean, square float64
			for i := range 32 * 32 {
				v := float64(img.GrayAt(block%4*32+i%32, block/4*32+i/32).Y)
				mean, square = mean+v/1024, square+v*v/1024
			}
			fmt.Fprintf(&b, " %.1f/%.1f", mean, math.Sqrt(square-mean*mean))
		}
		b.WriteByte('\n')
	}
	start := time.Unix(1_800_000_000, 0)
	require.Len(t, Sources(7, warm(math.NaN())), 6, "without a thermometer")
	sources := Sources(7, warm(40))
	require.Len(t, sources, 7)
	require.NoError(t, Generate(sources[len(sources)-2:], start, 1200*time.Millisecond, func(m Message) error {
		e := m.Event
		require.Equal(t, e.Topic(), m.Topic)
		require.Equal(t, start.Add(m.After).UnixNano(), e.Origin)
		id, err := uuid.Parse(e.ID)
		require.NoError(t, err)
		require.EqualValues(t, 4, id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
		fmt.Fprintf(&b, "%v %s %s %.4f", m.After, m.Topic, e.Truth.Label, e.Truth.Severity)
		if picture := e.Readings[0].BinaryValue; picture != nil {
			head, err := jpeg.DecodeConfig(bytes.NewReader(picture))
			require.NoError(t, err)
			fmt.Fprintf(&b, " %d×%d shadow %.4f blur %.4f\n", head.Width, head.Height, e.Truth.Shadow, e.Truth.Blur)
			return nil
		}
		var samples []float64
		require.NoError(t, json.Unmarshal([]byte(e.Readings[0].Value), &samples))
		require.Len(t, samples, window)
		fmt.Fprintf(&b, " %.3f … %.3f, %s %s\n", samples[0], samples[window-1], e.Readings[1].Value, e.Readings[1].Units)
		return nil
	}))
	golden.Require(t, "signals.golden", b.String())
}

// warm is a node of that temperature.
type warm float64

func (w warm) State() *host.State { return &host.State{Temperature: float64(w)} }

// beat is a source that records its calls.
type beat time.Duration

func (b beat) Interval() time.Duration { return time.Duration(b) }
func (b beat) Next(at time.Time) Event {
	return Event{Source: time.Duration(b).String(), Origin: at.UnixNano()}
}

// A stream is played on time, in turn and at the configured rate, until it ends, is stopped or emit fails.
func TestAStreamIsPlayedOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var got []string
		emit := func(m Message) error {
			require.Equal(t, time.Now().UnixNano(), m.Event.Origin)
			got = append(got, fmt.Sprint(m.Event.Source, " ", time.Since(start), " ", m.After))
			return nil
		}
		require.NoError(t, Play(t.Context(), []Source{beat(300 * time.Millisecond), beat(100 * time.Millisecond)}, 2, 200*time.Millisecond, emit))
		require.Equal(t, []string{
			"300ms 0s 0s", "100ms 0s 0s", "100ms 50ms 100ms", "100ms 100ms 200ms", "300ms 150ms 300ms", "100ms 150ms 300ms",
		}, got)
		full := errors.New("full")
		require.ErrorIs(t, Play(t.Context(), []Source{beat(1)}, 1, 0, func(Message) error { return full }), full)
		require.ErrorIs(t, Generate([]Source{beat(1)}, start, 1, func(Message) error { return full }), full)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, Play(ctx, []Source{beat(time.Hour)}, 1, 0, func(Message) error { return nil }))
		require.Equal(t, 1150*time.Millisecond, time.Since(start))

		start, got = time.Now(), nil
		play := func(text string) error {
			return PlayBack(t.Context(), strings.NewReader(text), 4, func(l Line) error {
				got = append(got, fmt.Sprint(l.Topic, " ", time.Since(start), " ", string(l.Payload)))
				return nil
			})
		}
		require.NoError(t, play(`{"topic":"a","afterMs":0,"payload":1}`+"\n"+`{"topic":"b","afterMs":200,"payload":{}}`))
		require.Equal(t, []string{"a 0s 1", "b 50ms {}"}, got)
		require.ErrorContains(t, play(`{"topic":"a"}`+"\n{"), "line 2 of the feed")
		require.ErrorIs(t, PlayBack(t.Context(), strings.NewReader("{}"), 1, func(Line) error { return full }), full)
	})
}
