package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/credit"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/atomicfile"
	"app-offload/functions/score"
	"app-offload/functions/seal"
)

// creditsFlags are the flags of the verb credits.
type creditsFlags struct {
	source                                   sourceFlags
	keys                                     keyFlags
	ledger, key, public, store, prices, head string
	rotate                                   string
	settle                                   bool
	every, lag                               time.Duration
}

func creditsVerb(ctx context.Context, args []string, std streams) error {
	var f creditsFlags
	flags := newFlags("credits", std)
	f.source.register(flags)
	f.keys.register(flags)
	flags.StringVar(&f.ledger, "ledger", "credits.jsonl", "file of the ledger")
	flags.StringVar(&f.key, "key", "", "file with the secret key that signs settlements")
	flags.StringVar(&f.public, "public", "", "public key that verifies the ledger, 64 hexadecimal digits; after a rotation, the first key; default: that of -key")
	flags.StringVar(&f.rotate, "rotate", "", "file with the secret key that signs future settlements")
	flags.StringVar(&f.store, "store", "sqlite:offload-cloud.db", "where the consumer stores")
	flags.StringVar(&f.prices, "prices", "", "file with the prices by class")
	flags.StringVar(&f.head, "head", "", "a settlement that must be in the ledger, NUMBER:DIGEST, as in a node's status; detects removed lines at the end")
	flags.BoolVar(&f.settle, "settle", false, "add a settlement of the use since the last one")
	flags.DurationVar(&f.every, "every", 0, "settle at this interval until interrupted; 0 settles once")
	flags.DurationVar(&f.lag, "lag", 2*time.Minute, "minimum age of settled records; on PostgreSQL it must exceed the duration of a transaction")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	switch {
	case f.every < 0:
		return fmt.Errorf("-every %s: it must not be negative", f.every)
	case f.lag < 0:
		return fmt.Errorf("-lag %s: it must not be negative", f.lag)
	case f.settle && f.rotate != "":
		return errors.New("-settle and -rotate exclude each other")
	case f.settle && f.prices == "":
		return errors.New("-prices is missing; name the file with the prices by class")
	case f.settle && f.source.from != "" && f.source.single() != nil:
		return f.source.single()
	case f.settle:
		return f.settleAll(ctx, std)
	case f.rotate != "":
		return f.handOver(std)
	}
	public, err := f.publicKey()
	if err != nil {
		return err
	}
	book, err := f.read(public)
	if err != nil {
		return err
	}
	return printBook(std.out, book)
}

func (f *creditsFlags) publicKey() (ed25519.PublicKey, error) {
	if f.public == "" {
		key, err := secretKey(f.key, false, io.Discard)
		if err != nil {
			return nil, err
		}
		return key.Public().(ed25519.PublicKey), nil
	}
	raw, err := hex.DecodeString(f.public)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("-public: it must be %d hexadecimal digits", 2*ed25519.PublicKeySize)
	}
	return raw, nil
}

// secretKey reads a key. If the file does not exist and make is set, it creates a key.
func secretKey(path string, make bool, told io.Writer) (ed25519.PrivateKey, error) {
	if path == "" {
		return nil, errors.New("-key or -public is missing; an account cannot be verified without a key")
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && make {
		public, secret, err := ed25519.GenerateKey(rand.Reader)
		if err == nil {
			err = atomicfile.Replace(path, []byte(hex.EncodeToString(secret.Seed())+"\n"))
		}
		if err == nil {
			_, err = fmt.Fprintf(told, "public key %x\n", public)
		}
		return secret, err
	}
	if err != nil {
		return nil, fmt.Errorf("reading a secret key: %w", err)
	}
	seed, err := hex.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("-key %s: it must hold %d hexadecimal digits", path, 2*ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// read reads and verifies the ledger.
func (f *creditsFlags) read(public ed25519.PublicKey) (*credit.Book, error) {
	raw, err := atomicfile.Read(f.ledger)
	if err != nil {
		return nil, fmt.Errorf("reading -ledger: %w", err)
	}
	book, err := credit.Read(raw, public)
	if err != nil {
		return book, fmt.Errorf("-ledger %s: %w", f.ledger, err)
	}
	if f.head != "" && !credit.Has(raw, f.head) {
		return book, fmt.Errorf("-ledger %s: it has no settlement %s; its last one is %s, so later lines were removed or replaced", f.ledger, f.head, book.Head())
	}
	return book, nil
}

// settler adds settlements to a ledger. It holds the lock on the file, so there is one for each ledger.
type settler struct {
	*creditsFlags
	file       ledgerFile
	key        ed25519.PrivateKey
	db         *store.Store
	publish    func(context.Context, []*seal.Note) error
	book       *credit.Book // nil if it must be read again
	log        *slog.Logger
	background sync.WaitGroup // publications in the background
}

// ledgerFile is the file that settlements are appended to.
type ledgerFile interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// settleAll settles once, or until ctx ends.
func (f *creditsFlags) settleAll(ctx context.Context, std streams) (err error) {
	s := &settler{creditsFlags: f, log: slog.New(slog.NewTextHandler(std.err, nil))}
	if s.file, err = f.lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.file.Close()) }()
	if err := s.begin(true, std.out); err != nil {
		return err
	}
	if s.db, err = store.Open(ctx, f.store, store.Options{MustExist: true}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	publish, stop, err := f.publisher(s.log)
	if err != nil {
		return err
	}
	defer stop()
	s.publish = publish
	if f.every > 0 {
		s.publish = s.inBackground(publish)
		defer s.background.Wait()
	}
	return s.run(ctx, std.out)
}

// run settles once and prints the ledger, or settles until ctx ends.
func (s *settler) run(ctx context.Context, out io.Writer) error {
	for {
		err := s.settle(ctx)
		switch {
		case s.every <= 0 && s.book == nil:
			return err
		case s.every <= 0:
			return errors.Join(err, printBook(out, s.book))
		case err != nil && ctx.Err() == nil:
			s.log.Error("settling failed, retrying", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.every):
		}
	}
}

// inBackground publishes in the background, so that an unreachable broker does not delay settlements. During a publication, new balances are skipped; the
// next settlement publishes them.
func (s *settler) inBackground(publish func(context.Context, []*seal.Note) error) func(context.Context, []*seal.Note) error {
	free := make(chan struct{}, 1)
	return func(ctx context.Context, notes []*seal.Note) error {
		select {
		case free <- struct{}{}:
		default:
			return nil
		}
		s.background.Go(func() {
			if err := publish(ctx, notes); err != nil && ctx.Err() == nil {
				s.log.Error("publishing balances failed, retrying", "error", err)
			}
			<-free
		})
		return nil
	}
}

// begin reads the key and the ledger.
func (s *settler) begin(make bool, told io.Writer) (err error) {
	if s.key, err = secretKey(s.creditsFlags.key, make, told); err != nil {
		return err
	}
	return s.reread()
}

// handOver makes another key sign future settlements.
func (f *creditsFlags) handOver(std streams) (err error) {
	s := &settler{creditsFlags: f, log: slog.New(slog.NewTextHandler(std.err, nil))}
	if s.file, err = f.lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.file.Close()) }()
	if err := s.begin(false, io.Discard); err != nil {
		return err
	}
	next, err := secretKey(f.rotate, true, io.Discard)
	if err != nil {
		return err
	}
	line, err := s.book.HandOver(next.Public().(ed25519.PublicKey), time.Now(), s.key)
	if err == nil {
		err = appendLine(s.file, line)
	}
	if err != nil {
		return fmt.Errorf("handing over: %w", err)
	}
	_, err = fmt.Fprintf(std.out, "key %x signs after settlement %s\n", next.Public(), s.book.Head())
	return err
}

// lock opens the ledger and locks it for this process. The kernel releases the lock when the process ends in any way.
func (f *creditsFlags) lock() (*os.File, error) {
	file, err := os.OpenFile(f.ledger, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0o600) // does not wait at a pipe
	if err != nil {
		return nil, fmt.Errorf("opening -ledger: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("-ledger %s: another process settles it: %w", f.ledger, err), file.Close())
	}
	return file, nil
}

// reread reads the ledger, and removes an incomplete last line that a crash has left.
func (s *settler) reread() error {
	public, err := s.publicKey()
	if err != nil {
		return err
	}
	book, err := s.read(public)
	if torn, is := errors.AsType[*credit.TornError](err); is {
		s.log.Warn("the last settlement is incomplete, removing it", "error", err)
		if err := s.file.Truncate(torn.Whole); err != nil {
			return err
		}
		book, err = s.read(public)
	}
	if err != nil {
		return err
	}
	if !book.Key.Equal(s.key.Public()) {
		return fmt.Errorf("-ledger %s: its current key is %x, and -key is %x", s.ledger, []byte(book.Key), s.key.Public())
	}
	s.book = book
	return nil
}

// inPlace fails if the ledger was moved, since the next start would create another one.
func (s *settler) inPlace() error {
	opened, err := s.file.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(s.ledger); err != nil || !os.SameFile(opened, now) {
		return errors.Join(fmt.Errorf("-ledger %s was removed, moved or replaced; put it back, or start the program again", s.ledger), err)
	}
	return nil
}

// settle adds a settlement if anything was used, and publishes the balances.
func (s *settler) settle(ctx context.Context) error {
	if s.book == nil {
		if err := s.reread(); err != nil {
			return err
		}
	}
	raw, err := atomicfile.Read(s.prices) // read each time, so that prices change without a restart
	if err != nil {
		return fmt.Errorf("reading -prices: %w", err)
	}
	var prices score.Prices
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err = errors.Join(decoder.Decode(&prices), prices.Check())
	if _, more := decoder.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("unexpected text after the prices")
	}
	if err != nil {
		return fmt.Errorf("-prices %s: %w", s.prices, err)
	}
	to, err := s.db.Settled(ctx, s.lag)
	if err != nil {
		return err
	}
	from := store.Mark{}
	if s.book.Last != nil {
		from = s.book.Last.To
	}
	to.Record, to.Answered = max(to.Record, from.Record), max(to.Answered, from.Answered)
	uses, err := s.db.Used(ctx, from, to)
	if err != nil {
		return err
	}
	if len(uses) > 0 {
		if err := s.inPlace(); err != nil {
			return err
		}
		line, err := s.book.Settle(uses, to, prices, time.Now(), s.key)
		if err == nil {
			err = appendLine(s.file, line)
		}
		if err != nil {
			s.book = nil // the book has the settlement, and the file may not
			return fmt.Errorf("adding a settlement: %w", err)
		}
	}
	nodes, err := s.db.Nodes(ctx)
	if err != nil {
		return err
	}
	var notes []*seal.Note
	for _, node := range nodes {
		body, err := json.Marshal(map[string]any{"balance": s.book.Balances[node].String(), "head": s.book.Head(), "prices": prices})
		if err != nil {
			return err
		}
		notes = append(notes, &seal.Note{Kind: seal.Credit, ID: "credit-" + s.book.Head(), Node: node, Created: time.Now(), Body: body})
	}
	return s.publish(ctx, notes)
}

// appendLine returns once the line is on disk. On an error it removes the line, if possible.
func appendLine(file ledgerFile, line []byte) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err = file.Write(line); err == nil {
		err = file.Sync()
	}
	if err != nil {
		err = errors.Join(err, file.Truncate(info.Size()))
	}
	return err
}

// publisher connects to the broker of -from, if there is one. Only publications wait for the connection.
func (f *creditsFlags) publisher(log *slog.Logger) (publish func(context.Context, []*seal.Note) error, stop func(), err error) {
	if f.source.from == "" {
		return func(context.Context, []*seal.Note) error { return nil }, func() {}, nil
	}
	_, sealer, err := f.keys.codecs(log)
	if err != nil {
		return nil, nil, err
	}
	f.source.id += "-credits"
	f.source.below = []string{}
	transport, err := f.source.transport(sourceLimits{maxMessage: 4 << 20, keys: f.keys.path != ""}, log)
	if err != nil {
		return nil, nil, err
	}
	started, cancel := context.WithCancel(context.Background())
	cancel()
	if err := transport.Start(started, func(*consume.Message) bool { return false }); err != nil && !errors.Is(err, context.Canceled) {
		transport.Close()
		return nil, nil, fmt.Errorf("connecting: %w", err)
	}
	log.Info("ready", "from", f.source.from, "pid", os.Getpid())
	return func(ctx context.Context, notes []*seal.Note) error {
		var out []consume.Outgoing
		for _, n := range notes {
			msg, err := sealer.SealNote(nil, n)
			if err != nil {
				return err
			}
			out = append(out, consume.Outgoing{Topic: seal.CreditTopic(n.Node), Payload: msg})
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		return transport.Publish(ctx, out)
	}, transport.Close, nil
}

func printBook(to io.Writer, b *credit.Book) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "NODE\tCLASS\tRECORDS\tMB\tCOMPUTED\tRESULTS\tCREDITS\t")
	for _, node := range slices.Sorted(maps.Keys(b.Sums)) {
		shown := consume.Shown(node, 100)
		for _, class := range slices.Sorted(maps.Keys(b.Sums[node])) {
			l := b.Sums[node][class]
			fmt.Fprintf(w, "%s\t%s\t%d\t%.3f\t%d\t%d\t%v\t\n", shown, consume.Shown(class, 100), l.Records, float64(l.Bytes)/1e6, l.Jobs, l.Results, l.Amount)
		}
		fmt.Fprintf(w, "%s\tbalance\t\t\t\t\t%v\t\n", shown, b.Balances[node])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "verified, last settlement %s\n", b.Head())
	return err
}
