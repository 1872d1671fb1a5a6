package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sealer creates messages.
type Sealer struct {
	cfg     Config
	keys    *keyring
	packers map[string]*compressor
	scratch sync.Pool // of *scratch

	message, data atomic.Pointer[ceiling]
}

// ceiling is a limit and its owner.
type ceiling struct {
	bytes int64
	whose string
}

// below returns the lower of a configured limit and a consumer's; 0 means no limit.
func below(configured int64, key string, consumer int64) *ceiling {
	if consumer > 0 && consumer < configured {
		return &ceiling{consumer, "the consumer's limit"}
	}
	return &ceiling{configured, key}
}

func (c *ceiling) check(what string, size int) error {
	if int64(size) <= c.bytes {
		return nil
	}
	return &TooLargeError{What: what, Size: int64(size), Limit: c.bytes, Whose: c.whose}
}

// Obey limits messages from now on to what a consumer accepts and the configured limits allow. It is safe for concurrent use.
func (s *Sealer) Obey(l ConsumerLimits) {
	s.message.Store(below(int64(s.cfg.MaxMessageKiB)<<10, "Seal.MaxMessageKiB", l.MaxMessage))
	s.data.Store(below(int64(s.cfg.MaxDataMiB)<<20, "Seal.MaxDataMiB", l.MaxData))
}

// scratch holds the buffers of one Seal, for reuse.
type scratch struct{ plain, packed, sealed, aad []byte }

// maxKept is the maximum size of buffers kept for reuse.
const maxKept = 4 << 20

// NewSealer returns a Sealer. Without keys (nil) all messages are plain, which only the ciphers auto and none allow.
func NewSealer(cfg Config, keys Keys) (*Sealer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sealer{cfg: cfg, keys: newKeyring(cfg, keys), packers: map[string]*compressor{}}
	s.Obey(ConsumerLimits{})
	for _, name := range []string{cfg.Compression, CompressionNone} {
		var err error
		if s.packers[name], err = newCompressor(name, cfg.Fold, cfg.CompressionLevel); err != nil {
			return nil, err
		}
	}
	s.scratch.New = func() any { return &scratch{} }
	return s, nil
}

// Seal appends the message of a batch to dst. On an error it returns dst unchanged: a TooLargeError asks for a smaller batch, a MalformedError names
// what in the batch can never be sealed, other errors concern keys and may be temporary.
func (s *Sealer) Seal(dst []byte, b *Batch) ([]byte, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	sc := s.scratch.Get().(*scratch)
	defer s.putScratch(sc)
	media := mediaJSON
	if s.cfg.Form == FormProtobuf {
		media = mediaProtobuf
		sc.plain = b.appendProtobuf(sc.plain[:0])
	} else {
		var err error
		if sc.plain, err = b.appendJSON(sc.plain[:0]); err != nil {
			return dst, err
		}
	}
	return s.finish(dst, sc, s.cfg.Form, s.cfg.Compression, b.attributes(media))
}

// finish compresses, seals and wraps the plain payload in sc.
func (s *Sealer) finish(dst []byte, sc *scratch, form, compression string, attrs []string) ([]byte, error) {
	if err := s.data.Load().check("data", len(sc.plain)); err != nil {
		return dst, err
	}
	k, err := s.keys.next()
	if err != nil {
		return dst, fmt.Errorf("choosing a key: %w", err)
	}
	if k == nil && form == FormJSON {
		attrs = append(attrs, "contentencoding", CompressionNone, "cipher", CipherNone)
		return s.write(dst, &envelope{attrs: newAttributes(attrs...), data: sc.plain, inline: true}, form)
	}
	packer := s.packers[compression]
	if sc.packed, err = packer.pack(sc.packed[:0], sc.plain); err != nil {
		return dst, fmt.Errorf("compressing with %s: %w", compression, err)
	}
	attrs = append(attrs, "contentencoding", packer.name)
	if k == nil {
		attrs = append(attrs, "cipher", CipherNone)
		return s.write(dst, &envelope{attrs: newAttributes(attrs...), data: sc.packed}, form)
	}
	e := &envelope{attrs: newAttributes(append(attrs, "cipher", k.cipher, "keyid", k.keyID)...)}
	sc.aad = e.attrs.appendAAD(sc.aad[:0])
	if sc.sealed, err = k.seal(sc.sealed[:0], s.keys.nonces, sc.packed, sc.aad); err != nil {
		return dst, fmt.Errorf("sealing with key %q: %w", k.keyID, err)
	}
	e.data = sc.sealed
	return s.write(dst, e, form)
}

func (s *Sealer) write(dst []byte, e *envelope, form string) ([]byte, error) {
	out, err := e.appendTo(dst, form)
	if err != nil {
		return dst, fmt.Errorf("writing the message: %w", err)
	}
	if err := s.message.Load().check("message", len(out)-len(dst)); err != nil {
		return dst, err
	}
	return out, nil
}

func (s *Sealer) putScratch(sc *scratch) {
	if cap(sc.plain)+cap(sc.packed)+cap(sc.sealed) <= maxKept {
		s.scratch.Put(sc)
	}
}

// The fields of Batch in batch.proto.
const (
	fieldNode      = 1
	fieldEpoch     = 2
	fieldSequences = 3
	fieldTasks     = 4
)

// check rejects a batch that no reader could use, before any work is done.
func (b *Batch) check() error {
	switch {
	case !isText(b.ID):
		return malformedf("batch", "its id %q must be printable UTF-8", b.ID)
	case !isText(b.Node) || !isText(b.Epoch):
		return malformedf("batch", "its node %q and epoch %q must be printable UTF-8", b.Node, b.Epoch)
	case b.Class != "" && !isText(b.Class):
		return malformedf("batch", "its class %q must be printable UTF-8", b.Class)
	case b.Session != "" && !isText(b.Session):
		return malformedf("batch", "its session %q must be printable UTF-8", b.Session)
	case len(b.Tasks) == 0 || len(b.Tasks) != len(b.Sequences):
		return malformedf("batch", "%d tasks and %d sequences; must be equal in number, and at least one", len(b.Tasks), len(b.Sequences))
	case !isTime(b.Created):
		return malformedf("batch", "its time %v has no four-digit year", b.Created)
	}
	return nil
}

// attributes returns the attributes of the batch, except those of compression and cipher.
func (b *Batch) attributes(media string) []string {
	return []string{
		"specversion", "1.0", "type", typeBatch, "id", b.ID, "source", nodeSource(b.Node), "subject", b.Class,
		"time", formatTime(b.Created), "datacontenttype", media, "epoch", b.Epoch,
		"session", b.Session, "sequence", sequenceText(b.Sequences[0]), "count", strconv.Itoa(len(b.Tasks)), "floor", sequenceText(b.Floor),
	}
}

// sequenceText returns a sequence with a fixed width, since CloudEvents compares sequences as strings and has no 64-bit integers.
func sequenceText(n uint64) string { return fmt.Sprintf("%020d", n) }

func parseSequence(name, s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) != 20 {
		return 0, malformedf("attributes", "%s %q is not a number of 20 digits", name, s)
	}
	return n, nil
}

// batchFrom returns a batch with the fields in the attributes, and the number of records they promise.
func batchFrom(a attributes) (b *Batch, first uint64, count int, err error) {
	b = &Batch{ID: a.get("id"), Epoch: a.get("epoch"), Session: a.get("session"), Class: a.get("subject")}
	var errs [5]error
	b.Node, errs[0] = nodeOf(a.get("source"), sourceNode)
	b.Created, errs[1] = parseTime(a.get("time"))
	b.Floor, errs[2] = parseSequence("floor", a.get("floor"))
	first, errs[3] = parseSequence("sequence", a.get("sequence"))
	count, errs[4] = strconv.Atoi(a.get("count"))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, 0, 0, malformed("attributes", err)
	}
	return b, first, count, nil
}

// appendProtobuf appends the batch as described by batch.proto. Sequences are stored as differences, so that consecutive ones take a byte each;
// differences wrap around modulo 2⁶⁴.
func (b *Batch) appendProtobuf(dst []byte) []byte {
	dst = protowire.AppendTag(dst, fieldNode, protowire.BytesType)
	dst = protowire.AppendString(dst, b.Node)
	dst = protowire.AppendTag(dst, fieldEpoch, protowire.BytesType)
	dst = protowire.AppendString(dst, b.Epoch)
	size, last := 0, uint64(0)
	for _, s := range b.Sequences {
		size += protowire.SizeVarint(protowire.EncodeZigZag(int64(s - last)))
		last = s
	}
	dst = protowire.AppendTag(dst, fieldSequences, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	last = 0
	for _, s := range b.Sequences {
		dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(int64(s-last)))
		last = s
	}
	for _, t := range b.Tasks {
		dst = protowire.AppendTag(dst, fieldTasks, protowire.BytesType)
		dst = protowire.AppendBytes(dst, t)
	}
	return dst
}

// readProtobuf reads sequences and tasks, which point into data. It skips fields of later versions.
func (b *Batch) readProtobuf(data []byte, count int) error {
	room := min(count, len(data)) // the count is untrusted, and each record takes at least one byte
	b.Sequences, b.Tasks = make([]uint64, 0, room), make([][]byte, 0, room)
	for len(data) > 0 {
		field, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return malformed("batch", protowire.ParseError(n))
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(field, typ, data); n < 0 {
			return malformed("batch", protowire.ParseError(n))
		}
		if typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(data)
			if err := b.readField(field, value, count); err != nil {
				return err
			}
		}
		data = data[n:]
	}
	return nil
}

func (b *Batch) readField(field protowire.Number, value []byte, count int) error {
	switch {
	case field == fieldNode && string(value) != b.Node, field == fieldEpoch && string(value) != b.Epoch:
		return malformedf("batch", "%q differs from its attributes, node %q and epoch %q", value, b.Node, b.Epoch)
	case field == fieldSequences:
		return b.readSequences(value, count)
	case field == fieldTasks && len(b.Tasks) == count:
		return malformedf("batch", "more than the %d tasks in its attributes", count)
	case field == fieldTasks:
		b.Tasks = append(b.Tasks, value)
	}
	return nil
}

func (b *Batch) readSequences(value []byte, count int) error {
	last := uint64(0)
	for len(value) > 0 {
		d, n := protowire.ConsumeVarint(value)
		if n < 0 {
			return malformed("sequences", protowire.ParseError(n))
		}
		if len(b.Sequences) == count {
			return malformedf("batch", "more than the %d sequences in its attributes", count)
		}
		last += uint64(protowire.DecodeZigZag(d))
		b.Sequences = append(b.Sequences, last)
		value = value[n:]
	}
	return nil
}

// Opener opens messages and trusts none of them.
type Opener struct {
	keys     Keys
	limits   Limits
	locks    locks
	unpacker unpacker
	keyed    atomic.Bool // a key has been used, so plain messages are no longer allowed
}

// NewOpener returns an Opener. As soon as there is a key every message must be sealed, unless the limits allow plain ones; without keys (nil) only
// plain messages can be opened.
func NewOpener(keys Keys, limits Limits) *Opener {
	limits = limits.withDefaults()
	return &Opener{keys: keys, limits: limits, unpacker: unpacker{limit: int64(limits.MaxDataMiB) << 20}}
}

// Open verifies and reads a batch of either form. It does not decode the tasks. The error says how to handle the message: an UnknownKeyError may be
// temporary; ErrForged (errors.Is), a TooLargeError and a MalformedError are permanent.
func (o *Opener) Open(msg []byte) (*Batch, error) {
	e, data, err := o.open(msg, typeBatch, o.limits.MaxMessageKiB<<10, int64(o.limits.MaxDataMiB)<<20)
	if err != nil {
		return nil, err
	}
	b, first, count, err := batchFrom(e.attrs)
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, malformedf("attributes", "count %d is not positive", count)
	}
	if count > o.limits.MaxRecords {
		return nil, &TooLargeError{What: "records", Size: int64(count), Limit: int64(o.limits.MaxRecords)}
	}
	switch media := e.attrs.get("datacontenttype"); {
	case media == mediaProtobuf:
		err = b.readProtobuf(data, count)
	case media != mediaJSON:
		err = malformedf("attributes", "unknown datacontenttype %q", media)
	case !e.inline && !json.Valid(data): // inline data was checked with the message
		err = malformed("batch", errNotJSON)
	default:
		err = b.readJSON(data, count)
	}
	if err != nil {
		return nil, err
	}
	if len(b.Tasks) != count || len(b.Sequences) != count || b.Sequences[0] != first {
		return nil, malformedf("batch", "%d tasks and %d sequences differ from its attributes: %d from sequence %d on",
			len(b.Tasks), len(b.Sequences), count, first)
	}
	return b, nil
}

// open verifies and unpacks a message of the wanted type, within limits of the message and of its data, in bytes.
func (o *Opener) open(msg []byte, want string, limit int, dataLimit int64) (*envelope, []byte, error) {
	if len(msg) > limit {
		return nil, nil, &TooLargeError{What: "message", Size: int64(len(msg)), Limit: int64(limit)}
	}
	e, err := parse(msg)
	if err != nil {
		return nil, nil, err
	}
	if typ := e.attrs.get("type"); typ != want {
		return nil, nil, malformedf("attributes", "type %q is not %s", typ, want)
	}
	packed, err := o.decrypt(e)
	if err != nil {
		return nil, nil, err
	}
	data, err := o.unpacker.unpack(e.attrs.get("contentencoding"), packed, dataLimit)
	return e, data, err
}

// decrypt authenticates and decrypts the message.
func (o *Opener) decrypt(e *envelope) ([]byte, error) {
	name, id := e.attrs.get("cipher"), e.attrs.get("keyid")
	switch name {
	case CipherNone:
		return e.data, o.plainAllowed()
	case CipherGCM, CipherEAX:
	default:
		return nil, malformedf("attributes", "unknown cipher %q", name)
	}
	if e.inline {
		return nil, malformed("message", errors.New("sealed data must be in data_base64"))
	}
	if o.keys == nil {
		return nil, &UnknownKeyError{KeyID: id}
	}
	key, err := o.keys.Key(id)
	if err != nil {
		return nil, &UnknownKeyError{KeyID: id, Err: err}
	}
	k, err := o.locks.get(name, id, key)
	if err != nil {
		return nil, &UnknownKeyError{KeyID: id, Err: err}
	}
	o.keyed.Store(true)
	return k.open(e.data, e.attrs.appendAAD(nil))
}

// plainAllowed rejects plain messages if there are keys: otherwise an attacker could just omit the cipher.
func (o *Opener) plainAllowed() error {
	if o.keys == nil || o.limits.AllowPlain {
		return nil
	}
	id, _, err := o.keys.Current()
	switch {
	case err != nil:
		return &UnknownKeyError{KeyID: id, Err: err}
	case id != "" || o.keyed.Load():
		o.keyed.Store(true)
		return fmt.Errorf("not sealed: %w", ErrForged)
	}
	return nil
}
