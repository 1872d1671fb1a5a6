package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/credit"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// A node's records over a broker are charged once, however often they are settled. Prices and balance are published to the node. The verb detects a
// changed line.
func TestCreditsOfARealConsumer(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	dsn := "sqlite:" + at("cloud.db")
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn)
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	edge := newEdge(t, nil)
	r.send(t, batchTopic, edge.Batch(t, 1, 1, 2, 3))
	r.receipt(t)
	require.NoError(t, os.WriteFile(at("prices.json"), []byte(`{"default":{"mb":1000}}`), 0o600))

	answers := make(chan *seal.Note, 100)
	wait(t, r.Subscribe("offload/v1/+/credit", 1, func(_ mqtt.Client, m mqtt.Message) {
		note, err := seal.NewOpener(nil, seal.Limits{}).OpenNote(seal.Credit, m.Payload())
		if err != nil {
			t.Errorf("a statement that cannot be opened: %v", err)
			return
		}
		answers <- note
	}))
	settle := []string{"credits", "-ledger", at("credits.jsonl"), "-key", at("credits.key"), "-store", dsn, "-prices", at("prices.json"), "-settle", "-lag", "0", "-from", "mqtt://" + address}
	out := verb(t, settle...)
	public := regexp.MustCompile(`public key ([0-9a-f]{64})`).FindStringSubmatch(out)
	require.Len(t, public, 2, out)
	require.Regexp(t, `n1 +default +3 `, out)
	var body struct {
		Balance, Head string
		Prices        map[string]map[string]float64
	}
	select {
	case n := <-answers:
		require.Equal(t, "n1", n.Node)
		require.NoError(t, json.Unmarshal(n.Body, &body))
	case <-time.After(time.Minute):
		t.Fatal("nothing is published")
	}
	require.InDelta(t, 1000, body.Prices["default"]["mb"], 0)
	require.Contains(t, out, body.Head)
	again := verb(t, settle...)
	require.Contains(t, again, body.Head, "nothing new, no settlement")
	r.send(t, batchTopic, edge.Batch(t, 2, 4, 5))
	r.receipt(t)
	require.Regexp(t, `n1 +default +5 `, verb(t, settle...))
	require.Zero(t, stop(), log.String())

	show := []string{"credits", "-ledger", at("credits.jsonl"), "-public", public[1], "-head", body.Head}
	require.Contains(t, verb(t, show...), "verified, last settlement 2:")
	raw, err := os.ReadFile(at("credits.jsonl"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(at("credits.jsonl"), []byte(strings.Replace(string(raw), `"records":2`, `"records":1`, 1)), 0o600))
	told := &buffer{}
	require.Equal(t, 1, run(t.Context(), show, streams{told, told}))
	require.Contains(t, told.String(), "line 2: settlement 2 is changed")

	// A half-written settlement of a crash is made again.
	require.NoError(t, os.WriteFile(at("credits.jsonl"), raw[:len(raw)-20], 0o600))
	require.Regexp(t, `n1 +default +5 `, verb(t, settle...))
	require.Contains(t, verb(t, show...), "verified, last settlement 2:")

	// Another key signs from now on. The account is verified as before, and the old key can add nothing.
	rotate := []string{"credits", "-ledger", at("credits.jsonl"), "-key", at("credits.key"), "-rotate", at("second.key")}
	handed := append([]string{"credits", "-public", public[1]}, settle[1:]...)
	require.Regexp(t, `^key [0-9a-f]{64} signs after settlement 3:`, verb(t, rotate...))
	require.Equal(t, 1, run(t.Context(), settle, streams{told, told}))
	require.Contains(t, told.String(), "its current key is")
	handed[slices.Index(handed, at("credits.key"))] = at("second.key")
	_, log, stop = program(t, "-from", "mqtt://"+address, "-store", dsn)
	r.send(t, batchTopic, edge.Batch(t, 3, 6))
	r.receipt(t)
	require.Zero(t, stop(), log.String())
	require.Regexp(t, `n1 +default +6 `, verb(t, handed...))
	require.Contains(t, verb(t, show...), "verified, last settlement 4:")
}

// fullDisk writes half of the next line, like a full disk.
type fullDisk struct {
	*os.File
	full, stuck bool
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if !d.full {
		return d.File.Write(p)
	}
	d.full = false
	n, _ := d.File.Write(p[:len(p)/2])
	return n, syscall.ENOSPC
}

func (d *fullDisk) Truncate(size int64) error {
	if d.stuck {
		d.stuck = false
		return syscall.EIO
	}
	return d.File.Truncate(size)
}

// A full disk, an account that is unreadable for a while and a second settling process leave the account intact, and nothing is charged twice.
func TestAnAccountOutlivesFaults(t *testing.T) {
	address, dir := edgetest.Broker(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	dsn := "sqlite:" + at("cloud.db")
	_, _, stop := program(t, "-from", "mqtt://"+address, "-store", dsn)
	r, edge := newRadio(t, address, seal.NewOpener(nil, seal.Limits{})), newEdge(t, nil)
	r.send(t, batchTopic, edge.Batch(t, 1, 1))
	r.receipt(t)
	require.NoError(t, os.WriteFile(at("prices.json"), []byte(`{"default":{"mb":1000}}`), 0o600))
	settle := []string{"credits", "-ledger", at("credits.jsonl"), "-key", at("credits.key"), "-store", dsn, "-prices", at("prices.json"), "-settle", "-lag", "0"}
	verb(t, settle...)

	// The clock of the database may be a millisecond behind that of the records.
	f := &creditsFlags{ledger: at("credits.jsonl"), key: at("credits.key"), prices: at("prices.json"), lag: -time.Minute}
	file, err := f.lock()
	require.NoError(t, err)
	log := &buffer{}
	require.Equal(t, 1, run(t.Context(), settle, streams{log, log}))
	require.Contains(t, log.String(), "another process settles it")
	disk := &fullDisk{File: file, full: true}
	key, err := secretKey(f.key, false, io.Discard)
	require.NoError(t, err)
	db, err := store.Open(t.Context(), dsn, store.Options{MustExist: true})
	require.NoError(t, err)
	s := &settler{creditsFlags: f, file: disk, key: key, db: db, publish: func(context.Context, []*seal.Note) error { return nil }, log: slog.New(slog.DiscardHandler)}
	for i := range 3 {
		r.send(t, batchTopic, edge.Batch(t, uint64(2+i), uint64(2+i)))
		r.receipt(t)
		disk.full, disk.stuck = true, i > 0 // the second time, even the half line cannot be removed
		out := &buffer{}
		require.ErrorIs(t, s.run(t.Context(), out), syscall.ENOSPC)
		require.Empty(t, out.String())
		if i == 2 { // the third time, the file is unreadable
			require.NoError(t, os.Rename(f.ledger, at("away")))
			require.ErrorIs(t, s.settle(t.Context()), fs.ErrNotExist)
			require.NoError(t, os.Rename(at("away"), f.ledger))
		}
		require.NoError(t, s.run(t.Context(), out))
		require.Contains(t, out.String(), fmt.Sprintf("verified, last settlement %d:", 2+i))
		raw, err := os.ReadFile(f.ledger)
		require.NoError(t, err)
		book, err := credit.Read(raw, key.Public().(ed25519.PublicKey))
		require.NoError(t, err)
		require.EqualValues(t, 2+i, book.Sums["n1"]["default"].Records)
	}
	// A moved or replaced account gets no settlement, since a later start would make it again.
	r.send(t, batchTopic, edge.Batch(t, 10, 10))
	r.receipt(t)
	require.NoError(t, os.Rename(f.ledger, at("away")))
	require.ErrorContains(t, s.settle(t.Context()), "was removed, moved or replaced")
	require.NoError(t, os.WriteFile(f.ledger, nil, 0o600))
	require.ErrorContains(t, s.settle(t.Context()), "was removed, moved or replaced")
	require.NoError(t, os.Rename(at("away"), f.ledger))
	s.publish = func(context.Context, []*seal.Note) error { return errors.New("no broker") }
	out := &buffer{}
	require.ErrorContains(t, s.run(t.Context(), out), "no broker")
	require.Contains(t, out.String(), "verified, last settlement 5:")
	require.NoError(t, file.Close())
	require.NoError(t, db.Close())

	// An unreachable broker delays no settlement, and a stop meanwhile is orderly.
	r.send(t, batchTopic, edge.Batch(t, 5, 5))
	r.receipt(t)
	require.Zero(t, stop())
	_, log, stop = program(t, append(settle, "-every", "1s", "-from", "mqtt://127.0.0.1:1")...)
	eventually(t, func() bool {
		raw, err := os.ReadFile(f.ledger)
		require.NoError(t, err)
		return strings.Count(string(raw), "\n") == 6
	}, "settling: %v", log)
	require.Zero(t, stop(), log.String())

	// A file that is not an account, passed by mistake, stays unchanged.
	require.NoError(t, os.WriteFile(at("letter"), []byte("dear reader"), 0o600))
	settle[2] = at("letter")
	require.Equal(t, 1, run(t.Context(), settle, streams{log, log}))
	raw, err := os.ReadFile(at("letter"))
	require.NoError(t, err)
	require.Equal(t, "dear reader", string(raw))
}

// An unreachable broker delays no settlement, and after its return the current balances are published.
func TestBalancesArePublishedBesideSettlements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := &settler{}, &buffer{}
		s.log = slog.New(slog.NewTextHandler(log, nil))
		var published []string
		publish := s.inBackground(func(ctx context.Context, notes []*seal.Note) error {
			published = append(published, notes[0].ID)
			time.Sleep(30 * time.Second)
			return errors.New("no connection")
		})
		began := time.Now()
		for _, id := range []string{"1", "2", "3"} {
			require.NoError(t, publish(t.Context(), []*seal.Note{{ID: id}}))
		}
		require.Zero(t, time.Since(began))
		s.background.Wait()
		require.NoError(t, publish(t.Context(), []*seal.Note{{ID: "4"}}))
		s.background.Wait()
		require.Equal(t, []string{"1", "4"}, published)
		require.Equal(t, 2, strings.Count(log.String(), "no connection"))
	})
}

func TestCreditsRefuseWrongFlags(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(key, []byte("xyz"), 0o600))
	for _, row := range [][2]string{
		{"-ledger none", "-key or -public is missing"},
		{"-public 12", "hexadecimal"},
		{"-key " + key, "hexadecimal"},
		{"-public " + strings.Repeat("a", 64) + " -ledger none", "reading -ledger"},
		{"x", "unexpected argument"},
		{"-settle -key " + filepath.Join(dir, "new") + " -ledger " + filepath.Join(dir, "new"), "-prices is missing"},
		{"-settle -prices x -from nats://h", "must be mqtt://"},
	} {
		log := &buffer{}
		require.Equal(t, 1, run(t.Context(), append([]string{"credits"}, strings.Fields(row[0])...), streams{log, log}), row)
		require.Contains(t, log.String(), row[1], fmt.Sprint(row))
	}
	require.NoFileExists(t, filepath.Join(dir, "new"))
	prices := filepath.Join(dir, "prices.json")
	for _, text := range []string{``, `{"default":{"mb":-1}}`, `{"default":{"mib":1}}`, `{"default":{"mb":1}} {"x":{"mb":2}}`, `{"default":{"mb":1}}]`} {
		require.NoError(t, os.WriteFile(prices, []byte(text), 0o600))
		require.ErrorContains(t, (&settler{creditsFlags: &creditsFlags{prices: prices}, book: &credit.Book{}}).settle(t.Context()), prices, text)
	}
}

// Names of nodes and classes are texts of the nodes. On a terminal they are shown as plain text.
func TestNoNameReachesTheTerminal(t *testing.T) {
	node := "n\u202e1" // reverses the direction of the following text
	var out strings.Builder
	sums := map[string]map[string]credit.Line{node: {"a\x1b[2J\tb": {}}}
	require.NoError(t, printBook(&out, &credit.Book{Sums: sums}))
	require.Contains(t, out.String(), `n\u202e1  a\x1b[2J\tb `)
	require.Contains(t, out.String(), `n\u202e1      balance`)
	out.Reset()
	require.NoError(t, printTable([]*store.NodeStats{{Node: node}}, &out))
	require.Contains(t, out.String(), ` n\u202e1 `)
	require.NotContains(t, out.String(), node)
}
