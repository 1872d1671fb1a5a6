package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"app-offload/functions/keys"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

func spoolVerbs() []verb {
	return []verb{
		{"inspect", "show epoch, records by class, segments and quarantined damage", inspectVerb},
		{"verify", "read every byte and check every checksum; exit code 1 means damage", verifyVerb},
		{"repair", "quarantine damage, cut off torn ends, rewrite state and indexes; all else stays", repairVerb},
		{"export", "write every record as a line of JSON: its task with metadata and data", exportVerb},
	}
}

func spoolVerb(ctx context.Context, sh *shell, args []string) error {
	_, err := sh.group(ctx, "spool", spoolVerbs(), args)
	return err
}

// spoolFlags are the flags and the argument of all verbs of spool.
type spoolFlags struct {
	*flagSet
	dir, keys string
	asJSON    bool
	opts      []spool.Option
}

func (sh *shell) spooling(name string) *spoolFlags {
	f := &spoolFlags{flagSet: sh.flags(name)}
	f.StringVar(&f.keys, "keys", "", "`folder` with the keys of an encrypted spool, one file per key named by its id, as for offload-cloud")
	return f
}

// read parses the flags and the directory, and loads the keys if a folder is given.
func (f *spoolFlags) read(args []string) error {
	rest, err := f.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return f.misused("needs one directory, the service's Offload.Spool.Directory")
	}
	f.dir = rest[0]
	if f.keys == "" {
		return nil
	}
	files, err := keys.LoadFiles(f.keys, func(problem string) { _, _ = fmt.Fprintln(f.sh.err, "offloadctl:", problem) })
	f.opts = []spool.Option{spool.WithKeys(files)}
	return err
}

// readAside calls read, and rejects a directory in use by a process unless -live is set.
func (f *spoolFlags) readAside(args []string) error {
	live := f.Bool("live", false, "also while the service is running")
	if err := f.read(args); err != nil {
		return err
	}
	r, err := spool.Inspect(f.dir, f.opts...)
	if err == nil && r.InUse && !*live {
		err = fmt.Errorf("%s: %w", f.dir, errInUse)
	}
	return err
}

var errInUse = errors.New("the spool is in use, most likely by a running app-offload; stop it first (`docker compose stop app-offload`), or add " +
	"-live to read it meanwhile; the newest records may be missing or incomplete")

// damaged describes the damage of a spool, one line each.
func damaged(r *spool.Report) []string {
	var found []string
	for _, d := range r.Damages {
		what := "unknown record"
		if d.Seq > 0 {
			what = fmt.Sprintf("record %d of class %q", d.Seq, d.Class)
		}
		found = append(found, fmt.Sprintf("%s at %d, %d bytes, lane %d: %s (%s)", d.File, d.Offset, d.Length, d.Lane, d.Reason, what))
	}
	if r.State == stateLost {
		found = append(found, "the state is lost: counters restart at 0, and finished records are sent again")
	}
	return append(found, r.Notes...)
}

// stateLost is the spool's name for a state of which no copy is intact.
const stateLost = "lost"

// verifyVerb reads everything, and returns errFound if a part of it is damaged.
func verifyVerb(_ context.Context, sh *shell, args []string) error {
	f := sh.spooling("spool verify")
	f.BoolVar(&f.asJSON, "json", false, "as JSON")
	if err := f.readAside(args); err != nil {
		return err
	}
	r, err := spool.Verify(f.dir, f.opts...)
	if err != nil {
		return err
	}
	bad := damaged(r)
	switch {
	case f.asJSON:
		err = writeJSON(sh.out, r)
	case len(bad) == 0 && r.Locked == 0:
		_, err = fmt.Fprintf(sh.out, "%s: whole; %s records, %s\n", f.dir, count(r.Held), size(float64(r.Bytes)))
	default:
		err = tellDamage(f.dir, r, bad, sh.out)
	}
	if err == nil && (len(bad) > 0 || r.Locked > 0) {
		err = errFound
	}
	return err
}

func tellDamage(dir string, r *spool.Report, bad []string, out io.Writer) error {
	for _, d := range bad {
		fmt.Fprintf(out, "%s: %s\n", dir, clean(d))
	}
	if r.Locked > 0 {
		fmt.Fprintf(out, "%s: %s records are encrypted and were not checked; pass the folder of the keys with -keys\n", dir, count(r.Locked))
	}
	if len(r.Damages) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s places are damaged, %s records are held; `offloadctl spool repair %s`, or the next start of the service, "+
		"quarantines them and keeps all other records\n", dir, count(len(r.Damages)), count(r.Held), dir)
	return err
}

// repairVerb repairs a directory and reports the changes.
func repairVerb(_ context.Context, sh *shell, args []string) error {
	f := sh.spooling("spool repair")
	f.BoolVar(&f.asJSON, "json", false, "as JSON")
	if err := f.read(args); err != nil {
		return err
	}
	r, err := spool.Repair(f.dir, f.opts...)
	if errors.Is(err, spool.ErrLocked) {
		return fmt.Errorf("%s: the spool is in use, most likely by a running app-offload; stop it first (`docker compose stop app-offload`) (%w)", f.dir, err)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return writeJSON(sh.out, r)
	}
	if len(r.Damages) == 0 && r.Torn == 0 {
		fmt.Fprintf(sh.out, "%s: no damage found\n", f.dir)
	}
	for _, d := range r.Damages {
		fmt.Fprintln(sh.out, clean(setAside(f.dir, d)))
	}
	if r.Torn > 0 {
		fmt.Fprintf(sh.out, "%s: cut off %s of commits that were never confirmed\n", f.dir, size(float64(r.Torn)))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(sh.out, "%s: %s\n", f.dir, clean(n))
	}
	_, err = fmt.Fprintf(sh.out, "%s: state and indexes rewritten; %s records are held, %s\n", f.dir, count(r.Held), size(float64(r.Bytes)))
	return err
}

func setAside(dir string, d spool.Damage) string {
	what := "unknown record"
	if d.Seq > 0 {
		what = fmt.Sprintf("record %d of class %q is lost", d.Seq, d.Class)
	}
	kept := "its bytes could not be saved"
	if d.Kept != "" {
		kept = "its bytes are in " + d.Kept
	}
	return fmt.Sprintf("%s: quarantined %s at %d, %d bytes: %s; %s, %s", dir, d.File, d.Offset, d.Length, d.Reason, what, kept)
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
	Problem string     `json:"problem,omitempty"` // why there is no task; data is then the whole payload
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

// hole is a gap in a frame, at byte At of the data, for the values of the chunks.
type hole struct {
	Resource string `json:"resource"`
	At       int    `json:"at"`
	Length   int    `json:"length"` // elements or bytes of the whole value
	Encoding string `json:"encoding"`
}

// exportVerb writes the held records, of one class or of all, and returns errFound if a record could not be read.
func exportVerb(ctx context.Context, sh *shell, args []string) error {
	f := sh.spooling("spool export")
	class := f.String("class", "", "only records of this class")
	if err := f.readAside(args); err != nil {
		return err
	}
	w := bufio.NewWriter(sh.out)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	written, unread := 0, 0
	r, err := spool.Export(f.dir, func(r spool.Record) error {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d records: %w", written, ctx.Err())
		}
		if *class != "" && r.Class != *class {
			return nil
		}
		line := exportLine(&r)
		if line.Problem != "" {
			unread++
		}
		written++
		return lines.Encode(line)
	}, f.opts...)
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the records: %w", err)
	}
	bad := damaged(r)
	for _, d := range bad {
		fmt.Fprintf(sh.err, "%s: %s\n", f.dir, clean(d))
	}
	fmt.Fprintf(sh.err, "%s: wrote %s of %s records; %s have no readable task, %s are encrypted with a missing key\n", f.dir, count(written),
		count(r.Held), count(unread), count(r.Locked))
	if len(bad) > 0 || unread > 0 { // a missing key is among the damages
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

// dataOf returns the task's data in the most readable form; a []byte becomes base64. A frame with holes is not JSON.
func dataOf(t *task.Task) (data any, base64 bool) {
	switch {
	case t.Encoding == task.JSON && len(t.Holes) == 0 && json.Valid(t.Data):
		return json.RawMessage(t.Data), false
	case t.Encoding == task.Text:
		return string(t.Data), false
	}
	return t.Data, true
}
