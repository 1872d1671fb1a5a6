package clock

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The time since the boot is that of the kernel, including the time suspended since the process began, however the process counts.
func TestTheTimeSinceTheBoot(t *testing.T) {
	kernel := func(clock int32) time.Duration {
		var ts unix.Timespec
		require.NoError(t, unix.ClockGettime(clock, &ts))
		return time.Duration(ts.Nano())
	}
	const slack = time.Second // between two readings, on a busy machine
	require.InDelta(t, kernel(unix.CLOCK_BOOTTIME), read(unix.CLOCK_BOOTTIME), float64(slack))
	require.InDelta(t, kernel(unix.CLOCK_BOOTTIME)-kernel(unix.CLOCK_MONOTONIC), asleep(read), float64(slack))
	require.GreaterOrEqual(t, asleep(read), time.Duration(0))
	require.Zero(t, read(9999), "there is no such clock")
	require.InDelta(t, kernel(unix.CLOCK_BOOTTIME), System.Booted(), float64(slack))

	was := started
	defer func() { started = was }()
	m := &machine{start: time.Now().Add(-time.Hour)}
	require.InDelta(t, time.Hour, m.Running(), float64(slack))
	require.InDelta(t, started.booted+time.Hour, m.Booted(), float64(slack))
	started.asleep -= 3 * time.Hour
	require.InDelta(t, started.booted+4*time.Hour, m.Booted(), float64(slack))
	started.asleep += 6 * time.Hour
	require.InDelta(t, started.booted+time.Hour, m.Booted(), float64(slack), "it cannot have slept less than nothing")
}

// A machine identifies its boot and reports whether its wall clock is synchronised, as the kernel does.
func TestTheMachineSaysWhatTheKernelSays(t *testing.T) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	moment := System.Moment()
	require.Equal(t, strings.TrimSpace(string(id)), moment.Boot)
	state, err := unix.Adjtimex(&unix.Timex{})
	require.Equal(t, err == nil && state != unix.TIME_ERROR, moment.Synchronised)
	require.Positive(t, moment.Booted)
}

// A clock made late begins at the wall clock, and a nil clock is that of the machine.
func TestAClockBeginsAtTheWallClock(t *testing.T) {
	fake := NewFake(today)
	require.Equal(t, "boot-1", fake.Boot())
	require.True(t, fake.Synchronised())
	fake.Advance(5 * time.Minute)
	c := New(fake)
	require.Equal(t, today.Add(5*time.Minute).UnixNano(), c.Now())
	require.Equal(t, Moment{Wall: c.Now(), Boot: "boot-1", Booted: 5 * time.Minute, Synchronised: true}, c.Moment())
	require.Equal(t, 5*time.Minute, c.Booted())
	fake.Reboot(time.Hour)
	fake.Advance(time.Second)
	require.Equal(t, "boot-2", fake.Boot())
	require.Equal(t, [2]time.Duration{time.Second, time.Second}, [2]time.Duration{fake.Booted(), fake.Running()})
	require.Equal(t, today.Add(5*time.Minute+time.Hour+time.Second), fake.Wall())

	var none *Clock
	require.Equal(t, System.Moment().Boot, none.Moment().Boot)
	require.InDelta(t, System.Now(), none.Now(), float64(time.Minute))
	require.InDelta(t, System.Stepped(), none.Stepped(), float64(time.Minute))
	require.InDelta(t, System.Booted(), none.Booted(), float64(time.Minute))
	require.WithinDuration(t, time.Now(), none.Wall(none.Now()), time.Minute)
	require.Less(t, none.Since(none.Now()), time.Minute)
}

// Values at the believable bounds count.
func TestTheBoundsBetweenMoments(t *testing.T) {
	for _, row := range []struct {
		then, now Moment
		want      time.Duration
	}{
		{Moment{Boot: "a", Booted: 5}, Moment{Boot: "a", Booted: 9}, 4},
		{Moment{Boot: "a", Booted: 9}, Moment{Boot: "a", Booted: 5}, 0},
		{Moment{Booted: 5}, Moment{Booted: 9}, 0}, // two unknown boots are not one
		{Moment{Boot: "a", Synchronised: true}, Moment{Boot: "b", Wall: int64(believable), Synchronised: true}, believable},
		{Moment{Boot: "a", Synchronised: true}, Moment{Boot: "b", Wall: int64(believable) + 1, Synchronised: true}, 0},
		{Moment{Boot: "a", Wall: 9, Synchronised: true}, Moment{Boot: "b", Wall: 5, Synchronised: true}, 0},
	} {
		require.Equal(t, row.want, row.now.Since(row.then), "%+v", row)
	}
}

// The suspended time is the difference of two clocks, read again if the goroutine was interrupted in between, and at most eight times.
func TestHowLongTheMachineSlept(t *testing.T) {
	for _, c := range []struct {
		held  time.Duration // between two readings
		times int           // so often
		want  time.Duration
		reads int
	}{
		{0, 0, 5 * time.Second, 3},
		{10*time.Microsecond - 1, 99, 5*time.Second + 10*time.Microsecond - 1, 3},
		{10 * time.Microsecond, 3, 5 * time.Second, 6},
		{time.Second, 5, 5 * time.Second, 9},
		{time.Second, 99, 6 * time.Second, 24},
	} {
		now, reads := time.Hour, 0
		d := asleep(func(clock int32) time.Duration {
			if reads++; reads <= c.times {
				now += c.held
			}
			if clock == unix.CLOCK_BOOTTIME {
				return now + 5*time.Second
			}
			return now
		})
		require.Equal(t, [2]any{c.want, c.reads}, [2]any{d, reads}, "%+v", c)
	}
}
