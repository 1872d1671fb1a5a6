package seal

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of Batch in batch.proto.
const (
	fieldNode      = 1
	fieldEpoch     = 2
	fieldSequences = 3
	fieldTasks     = 4
)

// check refuses what no reader could use, before anything is spent on it.
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
		return malformedf("batch", "%d tasks and %d sequences; there must be as many, and one at least", len(b.Tasks), len(b.Sequences))
	case !isTime(b.Created):
		return malformedf("batch", "its time %v has no four-digit year", b.Created)
	}
	return nil
}

// attributes are all that the message says about the batch, but for what compression and cipher add.
func (b *Batch) attributes(media string) []string {
	return []string{
		"specversion", "1.0", "type", typeBatch, "id", b.ID, "source", nodeSource(b.Node), "subject", b.Class,
		"time", formatTime(b.Created), "datacontenttype", media, "epoch", b.Epoch,
		"session", b.Session, "sequence", sequenceText(b.Sequences[0]), "count", strconv.Itoa(len(b.Tasks)), "floor", sequenceText(b.Floor),
	}
}

// sequenceText has a fixed width, since CloudEvents compares sequences as text and has no integers of 64 bits.
func sequenceText(n uint64) string { return fmt.Sprintf("%020d", n) }

func parseSequence(name, s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) != 20 {
		return 0, malformedf("attributes", "%s %q is not a number of 20 digits", name, s)
	}
	return n, nil
}

// batchFrom rebuilds all of a batch that the attributes hold, with the number of records they promise.
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

// appendProtobuf appends the batch as batch.proto describes it. Sequences are differences, so that consecutive ones
// take a byte each; they wrap around modulo 2⁶⁴.
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

// readProtobuf fills in sequences and tasks, which point into data. Fields of later versions are skipped.
func (b *Batch) readProtobuf(data []byte, count int) error {
	room := min(count, len(data)) // a count is a promise, and each record takes a byte at least
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
		return malformedf("batch", "it says %q where its attributes say %q in epoch %q", value, b.Node, b.Epoch)
	case field == fieldSequences:
		return b.readSequences(value, count)
	case field == fieldTasks && len(b.Tasks) == count:
		return malformedf("batch", "it has more than the %d tasks that its attributes promise", count)
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
			return malformedf("batch", "it has more than the %d sequences that its attributes promise", count)
		}
		last += uint64(protowire.DecodeZigZag(d))
		b.Sequences = append(b.Sequences, last)
		value = value[n:]
	}
	return nil
}
