package score

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/host"
	"app-offload/functions/task"
)

func TestTariff(t *testing.T) {
	prices, err := parseTariff("0.02; Mo-Fr 08-18 0.1; Sa,Su 22-06 0.01; Fr-Mo 12-13 0.5")
	require.NoError(t, err)
	prices.zone = time.UTC
	for _, c := range []struct {
		day, hour int // of August 2027, which begins on a Sunday
		want      float64
	}{
		{2, 8, 0.1}, {2, 7, 0.02}, {6, 17, 0.1}, {6, 18, 0.02}, {7, 8, 0.02}, // Monday to Friday, by day
		{7, 22, 0.01}, {7, 5, 0.01}, {7, 6, 0.02}, {8, 23, 0.01}, {2, 23, 0.02}, // Saturday and Sunday, by night
		{6, 12, 0.5}, {8, 12, 0.5}, {9, 12, 0.5}, {3, 12, 0.1}, // over the weekend, by noon
	} {
		require.Equal(t, c.want, prices.at(time.Date(2027, 8, c.day, c.hour, 59, 0, 0, time.UTC)), "%+v", c)
	}
	berlin := time.FixedZone("CEST", 2*3600)
	prices.zone = berlin
	require.Equal(t, 0.1, prices.at(time.Date(2027, 8, 2, 6, 0, 0, 0, time.UTC)), "it is 8 o'clock there")
}

func TestTariffRefuses(t *testing.T) {
	for _, text := range []string{"x", "-1", "0.1; Mo", "0.1; Mo-Fr 8 0.2", "0.1; Mo-Fr 08-25 0.2", "0.1; Xx 08-10 0.2", "0.1; Xx-Fr 08-10 0.2", "0.1; Fr-Xx 08-10 0.2", "0.1; Mo 08-08 1", "0.1; Mo 25-08 1", "0.1; Mo 08--2 1", "0.1; Mo -2-08 1", "0.1; Mo x-08 1", "0.1; Mo 08-x 1", "NaN", "0.1 0.2", ";"} {
		c := DefaultConfig()
		c.MoneyPerMB = text
		require.ErrorContains(t, c.Validate(), "MoneyPerMB", text)
	}
	c := DefaultConfig()
	c.MoneyZone = "Mars/Olympus"
	require.ErrorContains(t, c.Validate(), "MoneyZone")
}

func TestBytesCostMoney(t *testing.T) {
	c := DefaultConfig()
	m, err := New(c)
	require.NoError(t, err)
	require.Zero(t, m.Price(clock.System, clock.System.Now()), "by default bytes cost nothing")
	c.MoneyPerMB = "0.25"
	m, err = m.With(c)
	require.NoError(t, err)
	s := &host.State{Link: host.Link{Up: true, Price: m.Price(clock.System, clock.System.Now())}}
	require.Equal(t, 0.25, s.Link.Price)
	e := m.EstimateWork(nil, 2_000_000, 1, s)
	require.InDelta(t, e.Bytes/1e6*0.25, e.Money, 1e-12)
}

// Published prices count if the configuration enables them: the price of a task that leaves, and the credits that it does not earn.
func TestPublishedPricesCount(t *testing.T) {
	prices := Prices{"camera": {MB: 2, Compute: 0.5, Earn: 0.25}, "default": {Compute: 7}}
	require.NoError(t, prices.Check())
	c := DefaultConfig()
	c.Credits = true
	m, err := New(c)
	require.NoError(t, err)
	require.True(t, m.Credits())
	price := func(class *task.Class) (money, bytes float64) {
		e := m.EstimateWork(class, 1000, 1, &host.State{})
		return e.Money, e.Bytes
	}
	money, bytes := price(&task.Class{Name: "camera"})
	require.Zero(t, money, "none are published")
	m.Publish(prices)
	money, _ = price(&task.Class{Name: "camera"})
	require.InDelta(t, bytes/1e6*2+0.75, money, 1e-12)
	for _, class := range []*task.Class{{Name: "door"}, nil} {
		money, _ = price(class)
		require.InDelta(t, 7, money, 1e-12, "%v", class)
	}
	m.Publish(nil)
	money, _ = price(nil)
	require.Zero(t, money)
	c.Credits = false
	m, err = New(c)
	require.NoError(t, err)
	m.Publish(prices)
	money, _ = price(nil)
	require.Zero(t, money)

	for _, bad := range []Prices{{"": {}}, {"c": {MB: -1}}, {"c": {Compute: math.NaN()}}, {"c": {Earn: 1e6 + 1}}} {
		require.Error(t, bad.Check(), "%v", bad)
	}
	require.NoError(t, Prices{"c": {MB: 1e6}, "d": {}}.Check())
}

// A task may have no class.
func TestATaskWithoutAClass(t *testing.T) {
	m, err := New(DefaultConfig())
	require.NoError(t, err)
	tk := &task.Task{Data: make([]byte, 100), Complexity: 50}
	require.Equal(t, m.EstimateWork(nil, 100, m.Cycles(100, 50), &host.State{}), m.Estimate(tk, &host.State{}))
}
