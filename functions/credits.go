package functions

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/say"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/status"
)

// teller takes the prices and the balance that the owner of the fleet publishes. Prices change what predictions cost, and no guard: a class that
// must not leave does not. All methods may be called from anywhere.
type teller struct {
	node    string
	opener  *seal.Opener
	publish func(score.Prices)
	log     Logger
	said    *say.Every

	mu      sync.Mutex
	at      time.Time // of the statement in force
	seq     int64     // of the settlement that it names
	known   status.CreditStatus
	refused uint64
}

// take reads a message of the node's topic for credits.
func (t *teller) take(message []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(message); err != nil {
		t.refused++
		if n, due := t.said.Due("refused"); due {
			t.log.Warnf("credits: statement refused: %v count=%d", err, n)
		}
	}
}

func (t *teller) read(message []byte) error {
	n, err := t.opener.OpenNote(seal.Credit, message)
	if err != nil {
		return err
	}
	var body struct {
		Balance, Head string
		Prices        score.Prices
	}
	if n.Node != t.node {
		return fmt.Errorf("it is for node %.64q", n.Node)
	}
	if err := json.Unmarshal(n.Body, &body); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	number, _, _ := strings.Cut(body.Head, ":")
	seq, _ := strconv.ParseInt(number, 10, 64)  // 0 for none
	if !n.Created.After(t.at) && seq <= t.seq { // settlements count on where the cloud's clock was set back
		return fmt.Errorf("it is of %v after settlement %d, not newer than the one in force", n.Created, seq)
	}
	if err := body.Prices.Check(); err != nil {
		return err
	}
	t.at, t.seq = n.Created, seq
	t.known = status.CreditStatus{Balance: check.Cut(body.Balance, 64), Head: check.Cut(body.Head, 128), At: n.Created}
	t.publish(body.Prices)
	return nil
}

func (t *teller) status(on bool) *status.CreditStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !on || t.at.IsZero() && t.refused == 0 {
		return nil
	}
	s := t.known
	s.Refused = t.refused
	return &s
}
