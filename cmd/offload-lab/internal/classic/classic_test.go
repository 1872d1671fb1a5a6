package classic

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The expected states come from the published equations, evaluated independently in another language.
func TestCartPoleMoves(t *testing.T) {
	c := CartPole{state: [4]float64{0.01, -0.02, 0.03, -0.04}}
	var terminated bool
	for i := range 20 {
		_, _, terminated, _ = c.Step([]int{1, 1, 0, 1, 0}[i%5])
	}
	require.InDeltaSlice(t, []float64{0.214053638455, 0.781251677526, -0.336006920994, -1.75745218586}, c.state[:], 1e-9)
	require.True(t, terminated, "19 degrees is past 12")
}

func TestAcrobotSwings(t *testing.T) {
	a := Acrobot{state: acrobat{0.01, -0.02, 0.03, -0.04}}
	for i := range 40 {
		a.Step([]int{0, 0, 0, 2, 2, 2, 1}[i%7])
	}
	require.InDeltaSlice(t, []float64{-0.023795093271, -0.0335005224171, -0.330417490091, 0.7651482501}, a.state[:], 1e-9)

	// Fast enough that angles wrap and velocities reach their limits.
	a = Acrobot{state: acrobat{2, -3, 9, -20}}
	for range 5 {
		a.Step(2)
	}
	require.InDeltaSlice(t, []float64{-2.64679875697, -1.51248726601, 4.88322334167, -11.1960485275}, a.state[:], 1e-9)
	s := a.state
	require.Equal(t, []float64{math.Cos(s[0]), math.Sin(s[0]), math.Cos(s[1]), math.Sin(s[1]), s[2], s[3]}, a.look())
}

func TestRewardsAndEnds(t *testing.T) {
	upright := Acrobot{state: acrobat{3.1, 0.1, 0, 0}}
	_, reward, terminated, _ := upright.Step(1)
	require.True(t, terminated)
	require.Zero(t, reward)

	idle := Acrobot{}
	idle.Reset(1)
	for i := range limit {
		_, reward, terminated, truncated := idle.Step(1)
		require.InDelta(t, -1, reward, 0)
		require.False(t, terminated)
		require.Equal(t, i == limit-1, truncated)
	}

	for _, env := range []interface {
		Spaces() (observation, actions int)
		Reset(seed uint64) []float64
		Step(action int) (obs []float64, reward float64, terminated, truncated bool)
	}{&Acrobot{}, &CartPole{}} {
		observation, actions := env.Spaces()
		require.Len(t, env.Reset(1), observation)
		require.Equal(t, observation/2, actions, "push left or right; torque to both sides or none")
	}
	balanced := CartPole{}
	for i := range limit {
		balanced.state = [4]float64{}
		_, _, terminated, truncated := balanced.Step(i % 2)
		require.False(t, terminated)
		require.Equal(t, i == limit-1, truncated)
	}
	gone := CartPole{state: [4]float64{2.39, 3, 0, 0}}
	_, reward, terminated, _ = gone.Step(1)
	require.True(t, terminated)
	require.InDelta(t, 1, reward, 0, "the last step counts too")
}

func TestSeedsDecide(t *testing.T) {
	var a, b CartPole
	require.Equal(t, a.Reset(7), b.Reset(7))
	require.NotEqual(t, a.Reset(7), b.Reset(8))
	for _, v := range a.Reset(9) {
		require.InDelta(t, 0, v, 0.05)
	}
}

func BenchmarkAcrobot(b *testing.B) {
	var a Acrobot
	a.Reset(1)
	for i := 0; b.Loop(); i++ {
		a.Step(i % 3)
	}
}
