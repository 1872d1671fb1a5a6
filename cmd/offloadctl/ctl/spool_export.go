package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"app-offload/functions/spool"
	"app-offload/functions/task"
)

var exportManual = manual{
	name: "spool export", arguments: "DIR [flags]",
	purpose: `
  Writes every record that a spool holds as a line of JSON, the highest lane first and in order: where it stands, its task's
  metadata, and its data. A whole JSON event is in "data" as it came; text is a text; anything else is base64, as
  "base64": true says. The records stay in the spool.
`,
	examples: `
  offloadctl spool export /spool > records.jsonl
  offloadctl spool export -class vibration /spool | jq -r '[.seq, .task.device, .task.eventId] | @tsv'
  offloadctl spool export -keys keys/ /spool | gzip > records.jsonl.gz
`,
	files: `
  DIR      is read only
  -keys    a folder with a key a file, named by its id, as for offload-cloud
`,
	exits: `
  0 every record was written; 1 some could not be read, which are named, and the rest was written; 2 wrong usage
`,
}

func exportVerb(ctx context.Context, sh *shell, args []string) error {
	f := sh.spooling(exportManual)
	class := f.String("class", "", "only records of this class")
	if err := f.readAside(args); err != nil {
		return err
	}
	return export(ctx, f.dir, *class, sh.out, sh.err, f.opts...)
}

// exported is one record as a line of JSON.
type exported struct {
	Seq     uint64     `json:"seq"`
	Lane    int        `json:"lane"`
	Class   string     `json:"class"`
	Score   float32    `json:"score"`
	Stored  time.Time  `json:"stored"`
	Expires *time.Time `json:"expires,omitempty"`
	Task    *metadata  `json:"task,omitempty"`
	Data    any        `json:"data"`
	Base64  bool       `json:"base64,omitempty"`
	Problem string     `json:"problem,omitempty"` // why there is no task: data is then the whole payload
}

// metadata is a task without its data. Times are ns since the Unix epoch, as in EdgeX.
type metadata struct {
	EventID    string  `json:"eventId"`
	Device     string  `json:"device"`
	Profile    string  `json:"profile"`
	Source     string  `json:"source"`
	Resource   string  `json:"resource,omitempty"`
	Origin     int64   `json:"origin"`
	Received   int64   `json:"received"`
	Chunk      int     `json:"chunk"`
	Of         int     `json:"of"`
	Critical   bool    `json:"critical,omitempty"`
	Encoding   string  `json:"encoding"`
	ValueType  string  `json:"valueType,omitempty"`
	Offset     int     `json:"offset,omitempty"`
	Count      int     `json:"count,omitempty"`
	Hole       int     `json:"hole,omitempty"`
	Holes      []hole  `json:"holes,omitempty"`
	Complexity float64 `json:"complexity"`
	DeadlineMS int64   `json:"deadlineMs"`
	Score      float64 `json:"score"`
	Policy     string  `json:"policy,omitempty"`
}

// hole is a place in a frame into which the values of chunks belong: at byte At of the data.
type hole struct {
	Resource string `json:"resource"`
	At       int    `json:"at"`
	Length   int    `json:"length"` // elements or bytes of the whole value
	Encoding string `json:"encoding"`
}

// export writes the records held, of one class or of all, and is errFound if some could not be read.
func export(ctx context.Context, dir, class string, out, notes io.Writer, opts ...spool.Option) error {
	w := bufio.NewWriter(out)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	written, unread := 0, 0
	r, err := spool.Export(dir, func(r spool.Record) error {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d records: %w", written, ctx.Err())
		}
		if class != "" && r.Class != class {
			return nil
		}
		line := exportLine(&r)
		if line.Problem != "" {
			unread++
		}
		written++
		return lines.Encode(line)
	}, opts...)
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the records: %w", err)
	}
	bad := damaged(r)
	for _, d := range bad {
		fmt.Fprintf(notes, "%s: %s\n", dir, clean(d))
	}
	fmt.Fprintf(notes, "%s: wrote %s of %s records; %s have no readable task, %s are encrypted with a key that is not here\n", dir, count(written),
		count(r.Held), count(unread), count(r.Locked))
	if len(bad) > 0 || unread > 0 { // a key that is not here is among the damages
		return errFound
	}
	return nil
}

// exportLine decodes a record's task.
func exportLine(r *spool.Record) exported {
	line := exported{Seq: r.Seq, Lane: r.Lane, Class: r.Class, Score: r.Score, Stored: time.Unix(0, r.Time).UTC()}
	if r.Expires > 0 {
		at := time.Unix(0, r.Expires).UTC()
		line.Expires = &at
	}
	t, err := task.Decode(r.Payload)
	if err != nil {
		line.Data, line.Base64, line.Problem = r.Payload, true, err.Error()
		return line
	}
	line.Task = &metadata{
		EventID: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Resource: t.Resource, Origin: t.Origin, Received: t.Received,
		Chunk: t.Chunk, Of: t.Of, Critical: t.Critical, Encoding: encodings[t.Encoding], ValueType: t.Type.String(), Offset: t.Offset, Count: t.Count,
		Hole: t.Hole, Complexity: t.Complexity, DeadlineMS: t.Deadline.Milliseconds(), Score: t.Score, Policy: t.Policy,
	}
	for _, h := range t.Holes {
		line.Task.Holes = append(line.Task.Holes, hole{h.Resource, h.At, h.Length, encodings[h.Encoding]})
	}
	line.Data, line.Base64 = dataOf(t)
	return line
}

var encodings = map[task.Encoding]string{task.JSON: "json", task.CBOR: "cbor", task.Text: "text", task.Binary: "binary", task.Raw: "raw"}

// dataOf is the task's data in the most readable form; a []byte becomes base64. A frame with holes is no JSON.
func dataOf(t *task.Task) (data any, base64 bool) {
	switch {
	case t.Encoding == task.JSON && len(t.Holes) == 0 && json.Valid(t.Data):
		return json.RawMessage(t.Data), false
	case t.Encoding == task.Text:
		return string(t.Data), false
	}
	return t.Data, true
}
