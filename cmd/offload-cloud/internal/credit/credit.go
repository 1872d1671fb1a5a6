// Package credit keeps the account of a fleet: the earnings and costs of each node, by class, at published prices.
//
// The account is a file of settlements, one JSON object a line. Each settlement has the digest of the previous one and is signed, so the public key
// reveals a changed, removed or moved line. The counts come from the store: receipted records, jobs with an answer, and results of local work that
// arrived as records. A node's statements count only for the records it has sent; see Settle.
package credit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/score"
)

// Micro is a millionth of a unit of the currency.
type Micro int64

// String formats units.
func (m Micro) String() string {
	sign, v := "", new(big.Int).Abs(big.NewInt(int64(m)))
	if m < 0 {
		sign = "-"
	}
	whole, part := new(big.Int).QuoRem(v, big.NewInt(1e6), new(big.Int))
	return fmt.Sprintf("%s%d.%06d", sign, whole, part)
}

// Line is a node's use for a class in one settlement, with its amount.
type Line struct {
	store.Use
	Amount Micro `json:"amount"`
}

// Account is a node's part of a settlement.
type Account struct {
	Classes map[string]Line `json:"classes"`
	Balance Micro           `json:"balance"` // after the settlement
}

// Settlement is one line of the account. Hash is the SHA-256 of its JSON without hash and signature, Signature is over that digest.
type Settlement struct {
	Seq       int64              `json:"seq"`
	Previous  string             `json:"previous"` // hash of the previous settlement, "" for the first
	At        time.Time          `json:"at"`
	From      store.Mark         `json:"from"`
	To        store.Mark         `json:"to"`
	Prices    score.Prices       `json:"prices"`
	Nodes     map[string]Account `json:"nodes"`
	Next      string             `json:"next,omitempty"` // public key that signs from the next settlement on, in hexadecimal digits; this one settles nothing
	Hash      string             `json:"hash,omitempty"`
	Signature []byte             `json:"signature,omitempty"`
}

// Book is a verified account.
type Book struct {
	Last     *Settlement       // nil for an empty account
	Key      ed25519.PublicKey // signs the next settlement
	Balances map[string]Micro
	Sums     map[string]map[string]Line // by node and class, over all settlements
}

func newBook(key ed25519.PublicKey) *Book {
	return &Book{Key: key, Balances: map[string]Micro{}, Sums: map[string]map[string]Line{}}
}

// amount returns the amount of a use. Prices are rounded to a millionth, the sum is rounded down.
func amount(u store.Use, at score.Price) (Micro, error) {
	micros := func(price float64) *big.Int { return big.NewInt(int64(price*1e6 + 0.5)) }
	sum := new(big.Int).Mul(big.NewInt(u.Results), micros(at.Earn))
	sum.Sub(sum, new(big.Int).Mul(big.NewInt(u.Jobs), micros(at.Compute)))
	carried := new(big.Int).Mul(big.NewInt(u.Bytes), micros(at.MB))
	sum.Sub(sum, carried.Add(carried, big.NewInt(999_999)).Quo(carried, big.NewInt(1_000_000)))
	if !sum.IsInt64() {
		return 0, fmt.Errorf("%+v amounts to %v millionths, more than can be stored", u, sum)
	}
	return Micro(sum.Int64()), nil
}

// Settle makes the settlement that follows the latest one of the book, and adds it to the book.
func (b *Book) Settle(uses store.Uses, to store.Mark, prices score.Prices, at time.Time, key ed25519.PrivateKey) ([]byte, error) {
	s := b.next(at)
	s.To, s.Prices = to, prices
	for node, classes := range uses {
		a := Account{Classes: map[string]Line{}, Balance: b.Balances[node]}
		for class, use := range classes {
			sum, err := amount(*use, prices.Of(class))
			if err != nil {
				return nil, fmt.Errorf("node %.64q, class %.64q: %w", node, class, err)
			}
			a.Classes[class] = Line{*use, sum}
			a.Balance += sum
		}
		s.Nodes[node] = a
	}
	return b.sign(s, key)
}

// HandOver makes the settlement after which another key signs, and adds it to the book.
func (b *Book) HandOver(next ed25519.PublicKey, at time.Time, key ed25519.PrivateKey) ([]byte, error) {
	s := b.next(at)
	s.To, s.Next = s.From, hex.EncodeToString(next)
	return b.sign(s, key)
}

// next returns the settlement that follows the latest one, without content.
func (b *Book) next(at time.Time) *Settlement {
	s := &Settlement{Seq: 1, At: at.UTC(), Nodes: map[string]Account{}}
	if b.Last != nil {
		s.Seq, s.Previous, s.From = b.Last.Seq+1, b.Last.Hash, b.Last.To
	}
	return s
}

func (b *Book) sign(s *Settlement, key ed25519.PrivateKey) ([]byte, error) {
	if !b.Key.Equal(key.Public()) {
		return nil, fmt.Errorf("key %x must sign settlement %d, not %x", []byte(b.Key), s.Seq, key.Public())
	}
	digest, err := s.digest()
	if err != nil {
		return nil, err
	}
	s.Hash, s.Signature = hex.EncodeToString(digest), ed25519.Sign(key, digest)
	raw, _ := json.Marshal(s) // as the digest could be made
	b.add(s)
	return append(raw, '\n'), nil
}

func (s *Settlement) digest() ([]byte, error) {
	bare := *s
	bare.Hash, bare.Signature = "", nil
	raw, err := json.Marshal(bare)
	sum := sha256.Sum256(raw)
	return sum[:], err
}

func (b *Book) add(s *Settlement) {
	b.Last = s
	if s.Next != "" {
		b.Key, _ = hex.DecodeString(s.Next) // follows has verified it
	}
	for node, a := range s.Nodes {
		b.Balances[node] = a.Balance
		if b.Sums[node] == nil {
			b.Sums[node] = map[string]Line{}
		}
		for class, l := range a.Classes {
			sum := b.Sums[node][class]
			sum.Records, sum.Bytes, sum.Jobs, sum.Results = sum.Records+l.Records, sum.Bytes+l.Bytes, sum.Jobs+l.Jobs, sum.Results+l.Results
			sum.Amount += l.Amount
			b.Sums[node][class] = sum
		}
	}
}

// Read verifies an account with the public key that signs its first settlement, and returns it. The error names the first wrong line and its problem;
// the book then contains the lines before it.
func Read(raw []byte, public ed25519.PublicKey) (*Book, error) {
	b, seen := newBook(public), map[int64]int{}
	lines := bytes.SplitAfter(raw, []byte("\n"))
	for i, line := range lines {
		if len(line) == 0 {
			continue
		}
		if i == len(lines)-1 && b.begins(line) {
			return b, fmt.Errorf("line %d: %w", i+1, &TornError{int64(len(raw) - len(line))})
		}
		s, err := read(line, b.Key)
		if err == nil {
			err = b.follows(s, seen, lines[i+1:])
		}
		if err != nil {
			return b, fmt.Errorf("line %d: %w", i+1, err)
		}
		seen[s.Seq] = i + 1
		b.add(s)
	}
	return b, nil
}

// TornError is an incomplete last line, as a crash leaves it: that settlement was not made.
type TornError struct {
	Whole int64 // bytes of the lines before it
}

func (*TornError) Error() string { return "its end is missing" }

// begins reports whether an incomplete line is the beginning of the next settlement. Some file systems leave zeros at its end.
func (b *Book) begins(text []byte) bool {
	seq := int64(1)
	if b.Last != nil {
		seq = b.Last.Seq + 1
	}
	want := fmt.Appendf(nil, `{"seq":%d,"previous":"`, seq)
	text = bytes.TrimRight(text, "\x00")
	return bytes.HasPrefix(text, want) || bytes.HasPrefix(want, text)
}

func read(line []byte, public ed25519.PublicKey) (*Settlement, error) {
	text := bytes.TrimSuffix(line, []byte("\n"))
	s := &Settlement{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("changed: not a settlement: %w", err)
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("changed: it differs from its original encoding")
	}
	digest, err := s.digest()
	if err != nil || hex.EncodeToString(digest) != s.Hash {
		return nil, fmt.Errorf("settlement %d is changed: its content has another digest", s.Seq)
	}
	if !ed25519.Verify(public, digest, s.Signature) {
		return nil, fmt.Errorf("settlement %d is not signed with this key", s.Seq)
	}
	return s, nil
}

// follows verifies that a signed settlement is the next one, and that its sums are right.
func (b *Book) follows(s *Settlement, seen map[int64]int, rest [][]byte) error {
	want, previous, from := int64(1), "", store.Mark{}
	if b.Last != nil {
		want, previous, from = b.Last.Seq+1, b.Last.Hash, b.Last.To
	}
	if s.Seq != want {
		how := "is missing"
		if seen[s.Seq] > 0 {
			return fmt.Errorf("settlement %d is repeated after line %d", s.Seq, seen[s.Seq])
		}
		for _, later := range rest {
			if bytes.HasPrefix(later, fmt.Appendf(nil, `{"seq":%d,`, want)) {
				how = "was moved behind it"
			}
		}
		return fmt.Errorf("found settlement %d instead of %d, which %s", s.Seq, want, how)
	}
	if s.Previous != previous || s.From != from || s.To.Record < from.Record || s.To.Answered < from.Answered {
		return fmt.Errorf("settlement %d does not follow the previous one", s.Seq)
	}
	if next, err := hex.DecodeString(s.Next); err != nil || s.Next != "" && (len(next) != ed25519.PublicKeySize || len(s.Nodes) > 0 || s.To != s.From) {
		return fmt.Errorf("settlement %d hands over to an invalid key, or settles something", s.Seq)
	}
	for node, a := range s.Nodes {
		balance := b.Balances[node]
		for class, l := range a.Classes {
			if sum, err := amount(l.Use, s.Prices.Of(class)); err != nil || sum != l.Amount {
				return fmt.Errorf("settlement %d: the amount of node %.64q for class %.64q is wrong", s.Seq, node, class)
			}
			balance += l.Amount
		}
		if balance != a.Balance {
			return fmt.Errorf("settlement %d: the balance of node %.64q is %v, and its lines amount to %v", s.Seq, node, a.Balance, balance)
		}
	}
	return nil
}

// Head identifies the latest settlement. With it, a later check detects removed lines.
func (b *Book) Head() string {
	if b.Last == nil {
		return "0"
	}
	return fmt.Sprintf("%d:%s", b.Last.Seq, b.Last.Hash)
}

// Has reports whether an account contains the settlement of an earlier Head.
func Has(raw []byte, head string) bool {
	seq, hash, _ := strings.Cut(head, ":")
	if seq == "0" {
		return true
	}
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		s := &Settlement{}
		if json.Unmarshal(line, s) == nil && s.Hash == hash && fmt.Sprint(s.Seq) == seq {
			return true
		}
	}
	return false
}
