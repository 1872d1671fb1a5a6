package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const childDir = "SPOOL_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

// child stores, takes and ends records, and reports each step in a line until it is killed: "+seq" once a record is confirmed, "-seq" before it is
// ended.
func child(dir string) {
	s, err := Open(dir, DefaultConfig(), small(8<<20, 64<<10, 256<<10))
	if err != nil {
		fmt.Println("!", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		recs := []Record{rec(i%3, "c", 100+i%3000, i), rec(i%2, "d", 700, i)}
		if err := put(s, recs...); err == nil {
			fmt.Printf("+%d\n+%d\n", recs[0].Seq, recs[1].Seq)
		}
		for _, r := range s.Take(i%3, "", Source(1+i%2), 3, 1<<20, nil) {
			fmt.Printf("-%d\n", r.Seq)
			s.Done([]uint64{r.Seq})
		}
		if i%10 == 0 {
			_ = s.Checkpoint()
		}
	}
}

// A process killed at any moment loses no confirmed record, and its counts add up.
func TestKilledProcessLosesNothing(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("FAULT_ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	dir, seed := t.TempDir(), rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	confirmed, ended := map[uint64]bool{}, map[uint64]bool{}
	for range rounds {
		killed(t, dir, time.Duration(50+rng.IntN(250))*time.Millisecond, confirmed, ended)
		s, err := Open(dir, DefaultConfig(), small(8<<20, 64<<10, 256<<10))
		require.NoError(t, err)
		balanced(t, s)
		held := map[uint64]bool{}
		for lane := range Lanes {
			for _, r := range s.Take(lane, "", Backlog, 1<<30, 1<<30, nil) {
				held[r.Seq] = true
			}
		}
		for seq := range confirmed {
			require.True(t, held[seq] || ended[seq], "record %d was confirmed and is lost: %q", seq, s.Fate(seq))
		}
		require.Empty(t, s.Damages())
		require.NoError(t, s.Close())
	}
	t.Logf("%d kills, %d confirmed, %d ended", rounds, len(confirmed), len(ended))
}

func killed(t *testing.T, dir string, after time.Duration, confirmed, ended map[uint64]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil { // it runs
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		line := lines.Text()
		require.False(t, strings.HasPrefix(line, "!"), line)
		seq, err := strconv.ParseUint(line[1:], 10, 64)
		require.NoError(t, err)
		if line[0] == '+' {
			confirmed[seq] = true
		} else {
			ended[seq] = true
		}
	}
	require.Error(t, cmd.Wait())
}
