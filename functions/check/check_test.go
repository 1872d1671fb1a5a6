package check_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check"
)

// The error of an invalid duration suggests the probable one in Go's notation.
func TestDurationsAreSuggested(t *testing.T) {
	for text, want := range map[string]string{
		"3d": "72h", "1 day": "24h", "2 weeks": "336h", "1w": "168h", "10": "10s", "10 sec": "10s", "5 min": "5m", "90 minutes": "1h30m", "1.5 hours": "1h30m",
		"1 h": "1h", "20 S": "20s", "100msec": "100ms", "1h 30m": "1h30m", "61 min": "1h1m", "2.5 h 1s": "2h30m1s",
		"": "1s", "soon": "1s", "-5 days": "1s", "5 moons": "1s", "99999999999 weeks": "1s", "1e3": "1s",
	} {
		p := check.In("Room")
		require.Equal(t, time.Second, p.Duration("Age", text, time.Second, time.Hour), "the lowest stands in")
		require.EqualError(t, p.Err(), fmt.Sprintf("Room.Age = %q: is not a duration; write it like %q", text, want))
	}
	p := check.In("")
	require.Equal(t, time.Minute, p.Duration("Age", "1m", time.Second, time.Hour))
	require.Equal(t, time.Second, p.Duration("Age", "1s", time.Second, time.Hour))
	require.Equal(t, time.Hour, p.Duration("Age", "1h", time.Second, time.Hour))
	require.NoError(t, p.Err(), "both bounds are allowed")
	require.Equal(t, 2*time.Hour, p.Duration("Age", "2h", time.Second, time.Hour))
	require.EqualError(t, p.Err(), `Age = "2h0m0s": must be between 1s and 1h0m0s`, "without a section the key stands alone")
}

// Every problem is reported, each in a line of its own with its key.
func TestProblemsAreGathered(t *testing.T) {
	p := check.In("Room")
	p.Add(nil)
	p.OneOf("Word", "a", "a", "b")
	check.Range(p, "N", 1, 1, 2)
	check.Range(p, "N", 2, 1, 2)
	require.NoError(t, p.Err())
	require.True(t, p.Fine("Word", "N"))
	p.OneOf("Word", "c", "a", "b")
	require.True(t, p.Fine("N"))
	require.False(t, p.Fine("N", "Word"))
	require.False(t, p.Fine("Word", "N"))
	check.Range(p, "N", 0, 1, 2)
	check.Range(p, "N", 3, 1, 2)
	check.Range(p, "X", 5e-7, 1e-6, 86.4e6)
	check.Range(p, "X", 2e300, 1e-7, 1e300)
	p.Add(errors.New("other"))
	p.Addf("Two", "x", "one\nanother")
	require.EqualError(t, p.Err(), strings.Join([]string{
		`Room.Word = "c": must be one of a, b`, `Room.N = "0": must be between 1 and 2`, `Room.N = "3": must be between 1 and 2`, `Room.X = "5e-07": must be between 0.000001 and 86400000`, `Room.X = "2e+300": must be between 1e-07 and 1e+300`, "other",
		`Room.Two = "x": one`, `Room.Two = "x": another`,
	}, "\n"))
}

// distance is the definition: the fewest letters to insert, delete or replace.
func distance(a, b string) int {
	switch {
	case a == "":
		return len(b)
	case b == "":
		return len(a)
	case a[0] == b[0]:
		return distance(a[1:], b[1:])
	}
	return 1 + min(distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]))
}

func TestTheNearestNameIsSuggested(t *testing.T) {
	names := []string{"Operators", "Priority", "Policy", "TTL", "Deadline", "MatchDevice"}
	for name, want := range map[string]string{
		"operator": "Operators", "Prioity": "Priority", "polciy": "Policy", "ttl": "TTL", "TLT": "TTL", "deadlines": "Deadline", "MatchDev": "MatchDevice",
		"": "", "x": "", "xy": "", "Weight": "", "completely else": "", "tt": "TTL",
	} {
		require.Equal(t, want, check.Nearest(name, names), "%q", name)
		if want == "" {
			require.Empty(t, check.DidYouMean(name, names))
		} else {
			require.Equal(t, "; did you mean "+want+"?", check.DidYouMean(name, names))
		}
	}
	var words []string
	for n := range 81 { // all of four letters out of three
		words = append(words, string([]byte{"abc"[n%3], "abc"[n/3%3], "abc"[n/9%3], "abc"[n/27]}))
	}
	for _, a := range words {
		for _, b := range words {
			want := ""
			if distance(a, b) < 3 {
				want = b
			}
			require.Equal(t, want, check.Nearest(a, []string{b}), "%s and %s", a, b)
		}
	}
	long := strings.Repeat("x", 1<<20)
	require.Equal(t, long, check.Nearest(long, []string{long}), "soon, whatever the length")
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "a": true, "Pumpe 7 – ü": true, "a\n": false, "\x00": false, "\x7f": false, "\xff": false, "\uFFFD": false,
		strings.Repeat("a", 4096): true, strings.Repeat("a", 4097): false,
	} {
		require.Equal(t, want, check.Printable(text), "%.20q", text)
	}
}

// A file of another user is reported with its owner; any other error is unchanged.
func TestAFileOfAnotherUserIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(file, nil, 0o640))
	denied := &fs.PathError{Op: "open", Path: file, Err: fs.ErrPermission}
	err := check.Access(fmt.Errorf("reading: %w", denied))
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "chown")
	require.ErrorContains(t, err, fmt.Sprintf("it belongs to user %d with mode -rw-r-----, and this process is user %d", os.Geteuid(), os.Geteuid()))
	denied.Path = file + ".none"
	require.ErrorContains(t, check.Access(denied), fmt.Sprintf("(this process is user %d", os.Geteuid()))
	for _, other := range []error{nil, errors.New("x"), fs.ErrPermission, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist}} {
		require.Equal(t, other, check.Access(other))
	}
}

// The bounds in the tags of a struct apply to its fields; a field without a tag accepts all values.
func TestFieldsAreWithinTheirTags(t *testing.T) {
	type config struct {
		Count int     `within:"-1 3"`
		Share float64 `within:"0.5 1e3"`
		Age   string  `within:"1s 24h"`
		Word  string  `within:"a|b"`
		Free  string
		Flag  bool
	}
	for _, good := range []config{{Count: -1, Share: 0.5, Age: "1s", Word: "a"}, {3, 1000, "24h", "b", "x", true}} {
		require.NoError(t, check.Fields("Room", good).Err())
	}
	require.EqualError(t, check.Fields("Room", config{4, 0.4, "25h", "c", "", false}).Err(), strings.Join([]string{
		`Room.Count = "4": must be between -1 and 3`, `Room.Share = "0.4": must be between 0.5 and 1000`, `Room.Age = "25h0m0s": must be between 1s and 24h0m0s`,
		`Room.Word = "c": must be one of a, b`,
	}, "\n"))
	require.Panics(t, func() {
		check.Fields("", struct {
			N int `within:"x 1"`
		}{})
	})
}
