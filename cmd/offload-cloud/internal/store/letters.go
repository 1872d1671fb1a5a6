package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Letter is a dead letter: a message that could not be opened, or a record of an opened batch that could not be decoded.
type Letter struct {
	ID                  int64
	Topic               string
	Node, Epoch         string // of a message: the topic's node, and ""
	Sequence            uint64 // of a record only
	IsRecord            bool
	Reason              string // a category for counts, such as "unknown key"
	Detail              string
	Raw                 []byte
	Times               int // number of arrivals of the same bytes
	FirstSeen, LastSeen time.Time
}

// digest identifies a letter by its content, so that a repeated message is stored once.
func (l *Letter) digest() string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %q %d %t\n", l.Topic, l.Node, l.Epoch, l.Sequence, l.IsRecord) // a hash never fails
	_, _ = h.Write(l.Raw)
	return hex.EncodeToString(h.Sum(nil))
}

// place returns the stored sequence: messages have none.
func (l *Letter) place() int64 {
	if l.IsRecord {
		return int64(l.Sequence)
	}
	return -1
}

// storeLetters quarantines unreadable messages and records, and conflicts. Any client can send unreadable messages, so they are refused once the
// table is full, and so are conflicts: their nodes got no receipt and still have them. Unreadable records are never refused, because they are
// receipted, and neither are letters of a retry, because they replace a letter.
func (s *Store) storeLetters(ctx context.Context, tx *sql.Tx, g *Group, streams []*stream, result *Result) error {
	for _, st := range streams {
		for _, l := range st.dead {
			if _, err := s.storeLetter(ctx, tx, l, false); err != nil {
				return err
			}
		}
	}
	letters := g.Letters
	for _, st := range streams {
		letters = append(letters[:len(letters):len(letters)], st.conflicts...)
	}
	if len(letters) == 0 {
		return nil
	}
	var count, size int64
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(size), 0) FROM dead_letters`).Scan(&count, &size)
	if err != nil {
		return fmt.Errorf("measuring the dead letters: %w", err)
	}
	for _, l := range letters {
		full := len(g.Settled) == 0 && (count >= int64(s.opts.DeadCount) || size+int64(len(l.Raw)) > int64(s.opts.DeadMiB)<<20)
		kept, err := s.storeLetter(ctx, tx, l, full)
		if err != nil {
			return err
		}
		switch {
		case kept:
			count, size = count+1, size+int64(len(l.Raw))
			result.Letters++
		case full:
			result.LettersRefused++
		}
	}
	return nil
}

// storeLetter stores the letter, or counts its repetition. It reports whether the letter was newly stored.
func (s *Store) storeLetter(ctx context.Context, tx *sql.Tx, l *Letter, full bool) (bool, error) {
	digest, at := l.digest(), now()
	found, err := tx.ExecContext(ctx, `UPDATE dead_letters SET times = times + 1, last_seen = $1 WHERE digest = $2`, at, digest)
	if err != nil {
		return false, fmt.Errorf("counting a dead letter: %w", err)
	}
	if n, err := found.RowsAffected(); err != nil || n > 0 || full {
		return false, err
	}
	raw := l.Raw
	if raw == nil {
		raw = []byte{}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO dead_letters (digest, topic, node, epoch, sequence, reason, detail, size, first_seen, last_seen, raw)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`, digest, clean(l.Topic), clean(l.Node), clean(l.Epoch),
		l.place(), l.Reason, clean(l.Detail), len(raw), at, at, raw)
	if err != nil {
		return false, fmt.Errorf("storing a dead letter: %w", err)
	}
	return true, nil
}

// clean replaces characters that databases reject.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Letters returns up to limit dead letters with ids above after, oldest first. Without raw, their bytes are not read.
func (s *Store) Letters(ctx context.Context, after int64, limit int, raw bool) ([]*Letter, error) {
	column := "NULL"
	if raw {
		column = "raw"
	}
	letters, err := collect(ctx, s.read, func(rows *sql.Rows) (*Letter, error) {
		l := &Letter{}
		var sequence, first, last int64
		err := rows.Scan(&l.ID, &l.Topic, &l.Node, &l.Epoch, &sequence, &l.Reason, &l.Detail, &l.Times, &first, &last, &l.Raw)
		if sequence >= 0 {
			l.Sequence, l.IsRecord = uint64(sequence), true
		}
		l.FirstSeen, l.LastSeen = time.Unix(0, first), time.Unix(0, last)
		return l, err
	}, `SELECT id, topic, node, epoch, sequence, reason, SUBSTR(detail, 1, 4096), times, first_seen, last_seen, `+column+
		` FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("listing dead letters: %w", err)
	}
	return letters, nil
}

// DropLetters deletes dead letters permanently and returns their number.
func (s *Store) DropLetters(ctx context.Context, ids []int64) (dropped int64, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		dropped, err = removeLetters(ctx, tx, ids)
		return err
	})
	return dropped, err
}

func removeLetters(ctx context.Context, tx *sql.Tx, ids []int64) (removed int64, err error) {
	for _, id := range ids {
		result, err := tx.ExecContext(ctx, `DELETE FROM dead_letters WHERE id = $1`, id)
		if err != nil {
			return removed, fmt.Errorf("removing dead letter %d: %w", id, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return removed, fmt.Errorf("removing dead letter %d: %w", id, err)
		}
		removed += n
	}
	return removed, nil
}
