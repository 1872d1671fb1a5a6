package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/cmd/offload-lab/internal/judge"
	"app-offload/cmd/offload-lab/internal/replay"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/twin"
	"app-offload/functions/decision"
	"app-offload/functions/models"
	"app-offload/functions/policy"
)

// filled gives every field of a value a distinct number or word, so that a table that swaps two differs.
func filled[T any](from int) (out T) {
	n := from
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		switch v.Kind() {
		case reflect.Float32, reflect.Float64:
			v.SetFloat(float64(n) * 0.01371)
		case reflect.Int, reflect.Int32, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Uint, reflect.Uint8, reflect.Uint64:
			v.SetUint(uint64(n)) //nolint:gosec // counts up from a small number
		case reflect.String:
			v.SetString(fmt.Sprint("word", n))
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fallthrough
		case reflect.Array:
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					fill(v.Field(i))
				}
			}
		}
	}
	fill(reflect.ValueOf(&out).Elem())
	return out
}

// Tables show each figure in its column, with its unit.
func TestTablesAreAsRecorded(t *testing.T) {
	var out bytes.Buffer
	scores := []judge.Score{filled[judge.Score](1), filled[judge.Score](200)}
	require.NoError(t, printTable(&out, scores))
	without := scores[0]
	without.RegretToBound = 0
	fmt.Fprintln(&out)
	require.NoError(t, printTable(&out, []judge.Score{without}))
	require.NoError(t, printTable(&out, nil))
	fmt.Fprintln(&out)
	require.NoError(t, printReplay(&out, "cost", []replay.Result{filled[replay.Result](1), filled[replay.Result](50)}))
	r := filled[twin.Result](1)
	r.Ways[1].Rounds = nil
	fmt.Fprintln(&out)
	out.WriteString(stdoutOf(t, func() error { return printTwin(&r, false) }))
	m := filled[modelReport](1)
	fmt.Fprintln(&out)
	m.print(&out)
	report := filled[models.Report](1)
	for _, change := range []func(*models.Report){
		func(r *models.Report) { r.Problem, r.InForce = "", true }, func(r *models.Report) { r.Problem, r.Resource, r.Signed = "", "", "" }, func(*models.Report) {},
	} {
		one := report
		change(&one)
		printVersion(&out, &one)
	}
	golden.Require(t, "tables.golden", out.String())

	require.Equal(t, 2, strings.Count(stdoutOf(t, func() error { return printLines(os.Stdout, scores) }), "\n"), "a line each")
	require.JSONEq(t, stdoutOf(t, func() error { return printTwin(&r, true) }), stdoutOf(t, func() error { return printLines(os.Stdout, []twin.Result{r}) }))
}

// Without a terminal the bar is one line for each tenth.
func TestTheBarShowsEachTenth(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, 200, 40)
	require.Equal(t, 2, b.tenth)
	b.start = b.start.Add(-10 * time.Second)
	for done := range 201 {
		b.show(done, "word")
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 8)
	require.Equal(t, "[█████████·····················]  30%  word  10s, 1m10s left", lines[0])
	require.Equal(t, "[██████████████████████████████] 100%  word  10s, 0s left", lines[7])
	require.Equal(t, "[██████························]  20%  word  10s, ? left", b.line(40, "word"))
	require.Equal(t, "[██████████████████████████████] 100%  word  10s, 0s left", b.line(300, "word"), "never beyond the end")
	require.Contains(t, newBar(&out, 0, 0).line(0, "word"), "  0%")
	out.Reset()
	b = newBar(&out, 10, 0)
	b.terminal = true
	b.show(1, "a")
	b.show(2, "b") // too soon
	b.drawn = b.drawn.Add(-100 * time.Millisecond)
	b.show(3, "c")
	b.show(10, "d") // the last one always
	shown := strings.Split(out.String(), "\r\x1b[K")
	require.Len(t, shown, 4)
	for i, word := range []string{"a", "c", "d"} {
		require.Contains(t, shown[i+1], "%  "+word+"  ")
	}
	require.NotContains(t, shown[2], "\n")
	require.True(t, strings.HasSuffix(shown[3], "\n"))
}

// Each measure of replay by hand.
func TestTheMeasuresOfReplay(t *testing.T) {
	r := decision.Record{Entry: decision.Entry{
		Waited: time.Second, Deadline: 6 * time.Second, Outcome: decision.Outcome{Time: 2, Bytes: 300, Energy: 4, Met: true},
	}}
	measured := func() map[string]float64 {
		all := map[string]float64{}
		for name, measure := range measures() {
			all[name] = measure(&r)
		}
		return all
	}
	// J is half a deadline, a tenth of the energy in units of 2 J, and 0.05 for the cloud; a miss costs 1.
	require.Equal(t, map[string]float64{"cost": 0.5 + 0.2, "time": 3, "miss": 0, "bytes": 300, "joules": 4}, measured())
	r.Decision.Target, r.Outcome.Met, r.Outcome.Time = decision.Cloud, false, 8
	require.InDeltaMapValues(t, map[string]float64{"cost": 1.5 + 0.2 + 0.05 + 1, "time": 9, "miss": 1, "bytes": 300, "joules": 4}, measured(), 1e-12)
	r.Deadline, r.Outcome.Time = 0, 2
	require.InDelta(t, 3/policy.DefaultConfig().CostPatience+0.2+0.05, recordCost(&r), 1e-12, "no deadline, no miss")
}

// The simulator may be off by the bound, in both directions.
func TestTheSimulatorAgreesWithinTheBound(t *testing.T) {
	for off, fine := range map[float64]bool{0: true, 0.1: true, -0.1: true, 0.11: false, -0.11: false, math.NaN(): false} {
		require.Equal(t, fine, agrees(&twin.Way{Off: off}, 0.1) == nil, off)
	}
	require.ErrorContains(t, agrees(&twin.Way{Off: -0.2, OffCI95: [2]float64{-0.3, 0.05}}, 0.1), "off by -20.0 %, more than 10.0 %; 95 % interval over the rounds -30.0 … +5.0 %")
}

// The settings of a tail that make no sense are rejected, and its bounds are not.
func TestTheTailOfACost(t *testing.T) {
	for _, fine := range []sim.Tail{{}, {PerSecond: 0.5, From: 0.5, To: 0.5}, {PerSecond: 1, From: 0.1, To: 9}} {
		require.NoError(t, checkTail(&fine))
	}
}
