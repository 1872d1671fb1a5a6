package decision

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"app-offload/functions/task"
)

// RecordFormat is the number of the format of logged decisions. A reader rejects newer formats, and older ones with important fields missing: format
// 1 lacks only quantiles of the goodput.
const (
	RecordFormat = 3
	oldestFormat = 1
)

// MaxRecord bounds one line of a decision log, bytes.
const MaxRecord = 64 << 10

// Record is one line of a decision log: a decision with all its inputs, the propensity above all, and its outcome. Other policies are evaluated on it
// offline. The names of its fields in JSON are those of Entry and stay; an additional field is a new format.
type Record struct {
	Format int `json:"format"`
	Entry
}

// AppendRecord appends the entry as one line, with its newline.
func AppendRecord(dst []byte, e *Entry) ([]byte, error) {
	line, err := json.Marshal(Record{RecordFormat, *e})
	if err == nil && len(line) >= MaxRecord {
		err = fmt.Errorf("it is %d bytes long; a line may have %d", len(line), MaxRecord)
	}
	if err != nil {
		return dst, fmt.Errorf("logging decision %d: %w", e.ID, err)
	}
	return append(append(dst, line...), '\n'), nil
}

// Sampled reports whether a decision is in a sample of that share. It depends on the id alone, so the sample is independent of everything that
// decisions are judged by.
func Sampled(id uint64, share float64) bool { return Uniform(sampleSeed, id) < share }

const sampleSeed = 0x10c

// Task returns the task with the fields that policies use, but without its data.
func (r *Record) Task() *task.Task {
	t := &task.Task{
		EventID: r.EventID, Device: r.Device, Chunk: r.Chunk, Of: r.Of, Nominal: r.Size, Complexity: r.Complexity,
		Deadline: r.Deadline, Received: r.Time - int64(r.Waited),
	}
	t.Class = &task.Class{Name: r.Class, Priority: r.Priority, NeverLeave: r.Decision.Reason == GuardNeverLeave}
	return t
}

// ReadRecords reads a decision log line by line. It ends at the first invalid line with an error that names the line. An end without a newline is
// ignored, since a crash leaves one, and so does reading while the log is written. The caller may keep a record. Memory is bounded by the longest
// line allowed, MaxRecord.
func ReadRecords(r io.Reader) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		in := bufio.NewReaderSize(r, MaxRecord)
		for n := 1; ; n++ {
			line, err := in.ReadSlice('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			var one *Record
			if err == nil {
				one, err = readRecord(line)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				err = fmt.Errorf("it is longer than %d bytes", MaxRecord)
			}
			if err != nil {
				yield(nil, fmt.Errorf("reading line %d of a decision log: %w", n, err))
				return
			}
			if !yield(one, nil) {
				return
			}
		}
	}
}

func readRecord(line []byte) (*Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the record")
	}
	return &r, r.check()
}

// check rejects records that would silently make an evaluation wrong: above all a propensity that is not a probability.
func (r *Record) check() error {
	d, o := &r.Decision, &r.Outcome
	switch {
	case r.Format < oldestFormat || r.Format > RecordFormat:
		return fmt.Errorf("format %d; this program reads %d to %d", r.Format, oldestFormat, RecordFormat)
	case r.ID == 0 || r.Policy == "":
		return errors.New("no id or no policy")
	case !(d.Propensity > 0 && d.Propensity <= 1):
		return fmt.Errorf("propensity %v is not in (0, 1]", d.Propensity)
	case r.Size < 0 || r.Deadline < 0 || r.Waited < 0 || r.Deadline > maxSpan || r.Waited > maxSpan:
		return fmt.Errorf("size %d, deadline %v and time waited %v: none may be below 0 or beyond %v", r.Size, r.Deadline, r.Waited, maxSpan)
	case !(r.Complexity >= 0 && r.Complexity <= 100):
		return fmt.Errorf("complexity %v is not within 0–100", r.Complexity)
	case o.Known && !(o.Time >= 0 && o.Energy >= 0 && o.Bytes >= 0):
		return fmt.Errorf("an outcome after %v s with %v J and %d bytes: none may be below 0", o.Time, o.Energy, o.Bytes)
	case !(r.Estimate.LocalTime >= 0 && r.Estimate.CloudTime >= 0) || math.IsInf(r.Estimate.LocalTime, 1):
		return fmt.Errorf("predicted %v s local and %v s cloud: both must be 0 or more, and the local one finite", r.Estimate.LocalTime, r.Estimate.CloudTime)
	}
	return nil
}

// maxSpan bounds deadlines and waits, so that no sum of them overflows.
const maxSpan = 10 * 365 * 24 * time.Hour
