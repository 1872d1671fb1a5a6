package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

func deadVerb(ctx context.Context, args []string, std streams) error {
	fs := newFlags("dead", std)
	var keys keyFlags
	keys.register(fs)
	return onStore(ctx, fs, args, map[string]func(*store.Store, []string) error{
		"list":  func(db *store.Store, _ []string) error { return listDead(ctx, db, std.out) },
		"retry": func(db *store.Store, args []string) error { return retryDead(ctx, db, &keys, args, std.out, std.err) },
		"drop":  func(db *store.Store, args []string) error { return dropDead(ctx, db, args, std.out) },
	})
}

func eachLetter(ctx context.Context, db *store.Store, raw bool, f func(*store.Letter) error) error {
	page := 100
	if raw {
		page = 1 // a letter may be as large as a message
	}
	for after := int64(0); ; {
		letters, err := db.Letters(ctx, after, page, raw)
		if err != nil || len(letters) == 0 {
			return err
		}
		for _, l := range letters {
			after = l.ID
			if err := f(l); err != nil {
				return err
			}
		}
	}
}

func listDead(ctx context.Context, db *store.Store, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tLAST SEEN\tTIMES\tNODE\tWHAT\tREASON\tDETAIL") // Flush returns the error
	err := eachLetter(ctx, db, false, func(l *store.Letter) error {
		what := consume.Shown(l.Topic, 100)
		if l.IsRecord {
			what = fmt.Sprintf("record %d of epoch %s", l.Sequence, consume.Shown(l.Epoch, 100))
		}
		_, err := fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\n", l.ID, l.LastSeen.UTC().Format(time.DateTime), l.Times,
			consume.Shown(l.Node, 100), what, l.Reason, consume.Shown(l.Detail, 200))
		return err
	})
	return errors.Join(err, w.Flush())
}

func retryDead(ctx context.Context, db *store.Store, keys *keyFlags, args []string, out, errs io.Writer) error {
	ids, err := parseIDs(args, letterID)
	if err != nil {
		return err
	}
	opener, _, err := keys.codecs(slog.New(slog.NewTextHandler(errs, nil)))
	if err != nil {
		return err
	}
	retry := func(l *store.Letter) error {
		line, err := retryOne(ctx, db, opener, l)
		if err != nil {
			return fmt.Errorf("dead letter %d: %w", l.ID, err)
		}
		_, err = fmt.Fprintf(out, "%d: %s\n", l.ID, line)
		return err
	}
	if len(ids) == 0 {
		return eachLetter(ctx, db, true, retry)
	}
	for _, id := range ids {
		found, err := db.Letters(ctx, id-1, 1, true)
		switch {
		case err != nil:
		case len(found) == 0 || found[0].ID != id:
			_, err = fmt.Fprintf(out, "%d: unknown dead letter\n", id)
		default:
			err = retry(found[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const letterID = "id of a dead letter; see dead list"

// retryOne reads a letter again and returns the outcome. An error of the store ends the retry.
func retryOne(ctx context.Context, db *store.Store, opener *seal.Opener, l *store.Letter) (string, error) {
	g, err := consume.Open(opener, l)
	if err != nil {
		return fmt.Sprintf("still unreadable: %v", err), nil
	}
	if !l.IsRecord {
		g.Settled = []int64{l.ID} // conflicting records become letters of their own
	}
	result, err := db.Commit(ctx, g)
	if db.Permanent(err) {
		return fmt.Sprintf("the store rejects it: %v", err), nil
	}
	if err != nil {
		return "", err
	}
	fresh := len(result.Fresh)
	if l.IsRecord {
		more, err := settle(ctx, db, opener, l, result.Conflicts > 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("stored %d new of %d records", fresh+more, g.Records()), nil
	}
	if len(g.Confirmed) > 0 {
		return fmt.Sprintf("recorded the node's confirmation of %d results", result.Confirmed), nil
	}
	if result.Conflicts > 0 {
		return fmt.Sprintf("stored %d new of %d records; %d differ from the records stored under their sequences and are now dead letters",
			fresh, g.Records(), result.Conflicts), nil
	}
	return fmt.Sprintf("stored %d new of %d records", fresh, g.Records()), nil
}

// settle removes the letter of a stored record. A record in conflict is stored under an epoch of its own.
func settle(ctx context.Context, db *store.Store, opener *seal.Opener, l *store.Letter, conflict bool) (fresh int, err error) {
	g := &store.Group{Settled: []int64{l.ID}}
	if conflict {
		own := *l
		own.Reason = store.Conflict
		opened, err := consume.Open(opener, &own)
		if err != nil {
			return 0, err
		}
		g.Batches = opened.Batches
	}
	result, err := db.Commit(ctx, g)
	if err != nil {
		return 0, err
	}
	return len(result.Fresh), nil
}

func dropDead(ctx context.Context, db *store.Store, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("drop needs the ids, or the word all")
	}
	var drop []int64
	if slices.Equal(args, []string{"all"}) {
		err := eachLetter(ctx, db, false, func(l *store.Letter) error {
			drop = append(drop, l.ID)
			return nil
		})
		if err != nil {
			return err
		}
	} else {
		ids, err := parseIDs(args, letterID)
		if err != nil {
			return err
		}
		drop = ids
	}
	n, err := db.DropLetters(ctx, drop)
	if err == nil {
		_, err = fmt.Fprintf(out, "dropped %d\n", n)
	}
	return err
}
