package credit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/score"
)

var (
	secret  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	public  = secret.Public().(ed25519.PublicKey)
	charges = score.Prices{"default": {MB: 0.02}, "vibration": {MB: 0.01, Compute: 0.002, Earn: 0.0005}}
)

func drawUses(rng *rand.Rand) store.Uses {
	uses := store.Uses{}
	for _, node := range []string{"n1", "n2", "n3"} {
		for _, class := range []string{"vibration", "camera"} {
			if rng.IntN(4) > 0 {
				if uses[node] == nil {
					uses[node] = map[string]*store.Use{}
				}
				uses[node][class] = &store.Use{Records: rng.Int64N(100), Bytes: rng.Int64N(1e9), Jobs: rng.Int64N(50), Results: rng.Int64N(50)}
			}
		}
	}
	return uses
}

// account returns the given number of settlements, with the resulting book.
func account(t require.TestingT, settlements int, seed uint64) ([]byte, *Book) {
	rng, b, raw := rand.New(rand.NewPCG(seed, 1)), newBook(public), []byte(nil)
	for i := range settlements {
		line, err := b.Settle(drawUses(rng), store.Mark{Record: int64(10 * i)}, charges, time.Unix(int64(i), 0), secret)
		require.NoError(t, err)
		raw = append(raw, line...)
	}
	return raw, b
}

// An amount of any size is formatted in units, to the millionth.
func TestAmountsAreWrittenInUnits(t *testing.T) {
	for m, want := range map[Micro]string{
		0: "0.000000", 1: "0.000001", -1: "-0.000001", 1_234_567: "1.234567", -1_000_000: "-1.000000", math.MinInt64: "-9223372036854.775808",
	} {
		require.Equal(t, want, m.String())
	}
}

// A price calculated by hand: 1.5 MB, 3 runs in the cloud and 10 local results.
func TestWhatAUseComesTo(t *testing.T) {
	got, err := amount(store.Use{Records: 9, Bytes: 1_500_000, Jobs: 3, Results: 10}, charges.Of("vibration"))
	require.NoError(t, err)
	require.Equal(t, "-0.016000", got.String(), "0.005 − 0.006 − 0.015")
	got, err = amount(store.Use{Bytes: 1}, charges.Of("camera"))
	require.NoError(t, err)
	require.Equal(t, Micro(-1), got, "less than a millionth is one")
	_, err = amount(store.Use{Jobs: 1 << 62}, score.Price{Compute: 1e6})
	require.Error(t, err)
}

// The sum of the lines is the balance, the account that is read is the one that was settled, and each settlement contains the digest of the previous one.
func TestTheSumOfLinesIsTheBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, b := account(t, rapid.IntRange(0, 12).Draw(t, "settlements"), rapid.Uint64().Draw(t, "seed"))
		got, err := Read(raw, public)
		require.NoError(t, err)
		require.Equal(t, b.Balances, got.Balances)
		require.Equal(t, b.Sums, got.Sums)
		require.Equal(t, b.Head(), got.Head())
		require.True(t, Has(raw, b.Head()))
		want := store.Use{}
		for line := range bytes.Lines(raw) {
			s, err := read(line, public)
			require.NoError(t, err)
			for _, a := range s.Nodes {
				for _, l := range a.Classes {
					add(&want, l.Use)
				}
			}
		}
		all := store.Use{}
		defer func() { require.Equal(t, want, all) }()
		for node, classes := range got.Sums {
			sum := Micro(0)
			for _, l := range classes {
				sum += l.Amount
				add(&all, l.Use)
			}
			require.Equal(t, got.Balances[node], sum)
		}
	})
}

func add(to *store.Use, u store.Use) {
	*to = store.Use{Records: to.Records + u.Records, Bytes: to.Bytes + u.Bytes, Jobs: to.Jobs + u.Jobs, Results: to.Results + u.Results}
}

// A changed, removed, repeated or moved line is detected and named, and so is a line of another key. The head reveals removed lines at the end.
func TestWhatWasTamperedWithIsNamed(t *testing.T) {
	raw, b := account(t, 5, 1)
	lines := strings.SplitAfter(string(raw), "\n")[:5]
	join := func(order ...int) string {
		var text strings.Builder
		for _, i := range order {
			text.WriteString(lines[i])
		}
		return text.String()
	}
	stranger := ed25519.NewKeyFromSeed(make([]byte, 32))
	other, _ := newBook(stranger.Public().(ed25519.PublicKey)).Settle(drawUses(rand.New(rand.NewPCG(1, 1))), store.Mark{}, charges, time.Unix(0, 0), stranger)
	for _, row := range []struct{ why, text, want string }{
		{"as it was", string(raw), ""},
		{"a changed number", strings.Replace(string(raw), `"jobs":`, `"jobs":1`, 1), "line 1: settlement 1 is changed"},
		{"an added member", strings.Replace(string(raw), `{"seq":3,`, `{"seq":3,"x":1,`, 1), "line 3: changed"},
		{"a blank", strings.Replace(string(raw), `{"seq":2,`, `{"seq":2, `, 1), "line 2: changed"},
		{"a removed line", join(0, 1, 3, 4), "line 3: found settlement 4 instead of 3, which is missing"},
		{"the first removed", join(1, 2, 3, 4), "line 1: found settlement 2 instead of 1, which is missing"},
		{"two exchanged", join(0, 2, 1, 3, 4), "line 2: found settlement 3 instead of 2, which was moved behind it"},
		{"a line twice", join(0, 1, 1, 2, 3, 4), "line 3: settlement 2 is repeated after line 2"},
		{"the first twice", join(0, 0, 1, 2, 3, 4), "line 2: settlement 1 is repeated after line 1"},
		{"another key", string(other), "line 1: settlement 1 is not signed with this key"},
		{"a torn line", string(raw[:len(raw)-9]), "line 5: its end is missing"},
		{"a line torn at its start", string(raw) + `{"se`, "line 6: its end is missing"},
		{"a line of which zeros are left", string(raw) + "\x00\x00", "line 6: its end is missing"},
		{"a torn line of another settlement", string(raw) + `{"seq":7,"prev`, "line 6: changed"},
		{"no settlement", "hello\n", "line 1: changed"},
		{"another file", "hello", "line 1: changed"},
	} {
		got, err := Read([]byte(row.text), public)
		require.NotNil(t, got, row.why)
		if row.want == "" {
			require.NoError(t, err, row.why)
			continue
		}
		require.ErrorContains(t, err, row.want, row.why)
	}
	cut := []byte(join(0, 1, 2))
	short, err := Read(cut, public)
	require.NoError(t, err, "an account does not know later settlements")
	require.Equal(t, fmt.Sprintf("3:%s", short.Last.Hash), short.Head())
	require.False(t, Has(cut, b.Head()))
	require.True(t, Has(cut, "0"))
	require.False(t, Has(cut, "2:"+short.Last.Hash), "of another number")
}

// The key's holder can sign; wrong sums are still detected.
func TestSignedSumsMustAddUp(t *testing.T) {
	b := newBook(public)
	b.Balances["n1"] = 5_000_000 // without a settlement
	line, err := b.Settle(store.Uses{"n1": {"vibration": {Jobs: 1}}}, store.Mark{}, charges, time.Unix(0, 0), secret)
	require.NoError(t, err)
	_, err = Read(line, public)
	require.ErrorContains(t, err, "the balance of node \"n1\" is 4.998000, and its lines amount to -0.002000")
}

// A settlement forged by the key's holder, which does not follow the previous one at the published prices, is detected.
func TestSignedSettlementsMustFollow(t *testing.T) {
	for why, change := range map[string]func(*Settlement){
		"does not follow": func(s *Settlement) { s.Previous = "aa" }, "settlement 2 does not follow": func(s *Settlement) { s.From = store.Mark{Record: 1} },
		"2 does not follow the previous one": func(s *Settlement) { s.To.Record-- }, "settlement 2 does not follow the previous one": func(s *Settlement) { s.To.Answered-- },
		`the amount of node "n1" for class "vibration" is wrong`: func(s *Settlement) {
			s.Nodes["n1"] = Account{Classes: map[string]Line{"vibration": {store.Use{Jobs: 1}, -1999}}, Balance: -1999}
		},
		"hands over to an invalid key, or settles something": func(s *Settlement) { s.Next, s.Nodes["n1"] = strings.Repeat("a", 64), Account{} },
	} {
		b := newBook(public)
		first, err := b.Settle(store.Uses{}, store.Mark{Record: 9, Answered: 9}, charges, time.Unix(0, 0), secret)
		require.NoError(t, err)
		s := b.next(time.Unix(1, 0))
		s.To, s.Prices = s.From, charges
		change(s)
		line, err := b.sign(s, secret)
		require.NoError(t, err)
		got, err := Read(append(first, line...), public)
		require.ErrorContains(t, err, "line 2: ", why)
		require.ErrorContains(t, err, why)
		require.EqualValues(t, 1, got.Last.Seq, why)
	}
	b := newBook(public)
	_, err := b.Settle(store.Uses{"n1": {"camera": {Jobs: 1 << 62}}}, store.Mark{}, score.Prices{"default": {Compute: 1e6}}, time.Unix(0, 0), secret)
	require.ErrorContains(t, err, `node "n1", class "camera"`)
	require.Equal(t, "0", b.Head(), "nothing is settled")
	_, err = b.Settle(store.Uses{}, store.Mark{}, charges, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), secret)
	require.ErrorContains(t, err, "year", "no text can hold it")
	require.Equal(t, "0", b.Head())
}

// A signed line with a null in place of an account is rejected.
func TestANodeWithoutAnAccountIsFound(t *testing.T) {
	bare, err := json.Marshal((&Book{}).next(time.Unix(0, 0)))
	require.NoError(t, err)
	text := strings.Replace(string(bare), `"nodes":{}`, `"nodes":{"n1":null}`, 1)
	digest := sha256.Sum256([]byte(text))
	signed := fmt.Sprintf(`%s,"hash":"%x","signature":"%s"}`+"\n", strings.TrimSuffix(text, "}"), digest, base64.StdEncoding.EncodeToString(ed25519.Sign(secret, digest[:])))
	_, err = Read([]byte(signed), public)
	require.ErrorContains(t, err, "line 1: changed: it differs from its original encoding")
}

// After a rotation the account is verified with the first key as before, and only the new key signs.
func TestAnotherKeySignsAfterAHandOver(t *testing.T) {
	raw, b := account(t, 2, 1)
	next := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	settle := func(b *Book, key ed25519.PrivateKey) ([]byte, error) {
		return b.Settle(drawUses(rand.New(rand.NewPCG(1, 1))), store.Mark{Record: 100}, charges, time.Unix(9, 0), key)
	}
	line, err := b.HandOver(next.Public().(ed25519.PublicKey), time.Unix(5, 0), secret)
	require.NoError(t, err)
	handed := append(raw, line...)
	_, err = settle(b, secret)
	require.ErrorContains(t, err, "must sign settlement 4")
	line, err = settle(b, next)
	require.NoError(t, err)
	got, err := Read(append(bytes.Clone(handed), line...), public)
	require.NoError(t, err)
	require.Equal(t, b.Balances, got.Balances)
	require.Equal(t, b.Head(), got.Head())
	_, err = Read(handed, next.Public().(ed25519.PublicKey))
	require.ErrorContains(t, err, "line 1: settlement 1 is not signed with this key")

	again, err := Read(handed, public)
	require.NoError(t, err)
	again.Key = public
	line, err = settle(again, secret)
	require.NoError(t, err)
	_, err = Read(append(bytes.Clone(handed), line...), public)
	require.ErrorContains(t, err, "settlement 4 is not signed with this key", "the old one")

	for _, s := range []*Settlement{{Next: "12"}, {Next: strings.Repeat("g", 64)}, {Next: strings.Repeat("a", 64), To: store.Mark{Record: 1}}} {
		b := newBook(public)
		s.Seq, s.Nodes = 1, map[string]Account{}
		line, err := b.sign(s, secret)
		require.NoError(t, err)
		_, err = Read(line, public)
		require.ErrorContains(t, err, "hands over to an invalid key")
	}
}

// Any file is rejected, or is an account whose lines add up.
func FuzzRead(f *testing.F) {
	raw, _ := account(f, 3, 1)
	f.Add(raw)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Read(raw, public)
		require.NotNil(t, b)
		if err == nil {
			require.True(t, Has(raw, b.Head()))
		}
	})
}
