package store

import (
	"crypto/sha256"
	"encoding/binary"

	"app-offload/functions/task"
)

// Conflict is the reason of a record that was quarantined because its sequence is used by another record.
const Conflict = "conflict"

// contentOf returns a digest of a record's content. Two records are the same only if their digests are equal: copies of a disk reuse sequences, and
// device services that restart their numbering reuse event ids. The digest excludes properties that differ between two deliveries of the same event
// (reception, class, score and policy). The order of the fields is part of the tables and must never change.
func contentOf(r *Record) int64 {
	if r.Task == nil {
		sum := sha256.Sum256(r.Raw)
		return int64(binary.BigEndian.Uint64(sum[:]))
	}
	t := r.Task
	var head []byte
	for _, text := range []string{t.EventID, t.Device, t.Profile, t.Source, t.Resource} {
		head = appendText(head, text)
	}
	for _, n := range []int64{t.Origin, int64(t.Chunk), int64(t.Of), int64(t.Encoding), int64(t.Type), int64(t.Offset), int64(t.Count), int64(t.Hole)} {
		head = binary.AppendVarint(head, n)
	}
	head = binary.AppendUvarint(head, uint64(len(t.Holes)))
	for _, hole := range t.Holes {
		head = appendHole(head, hole)
	}
	h := sha256.New()
	_, _ = h.Write(head) // a hash never fails
	_, _ = h.Write(t.Data)
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

func appendHole(dst []byte, hole task.Hole) []byte {
	dst = appendText(dst, hole.Resource)
	dst = binary.AppendVarint(dst, int64(hole.At))
	dst = binary.AppendVarint(dst, int64(hole.Length))
	return binary.AppendVarint(dst, int64(hole.Encoding))
}
