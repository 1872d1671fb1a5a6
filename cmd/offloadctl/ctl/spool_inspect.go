package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/spool"
)

// inspectVerb shows the contents of a directory without changing it.
func inspectVerb(_ context.Context, sh *shell, args []string) error {
	f := sh.spooling("spool inspect")
	f.BoolVar(&f.asJSON, "json", false, "as JSON")
	if err := f.read(args); err != nil {
		return err
	}
	r, err := spool.Inspect(f.dir, f.opts...)
	if err != nil {
		return err
	}
	if f.asJSON {
		return writeJSON(sh.out, r)
	}
	if _, err := io.WriteString(sh.out, overview(f.dir, r)); err != nil {
		return err
	}
	if len(r.Segments) == 0 {
		return nil
	}
	fmt.Fprintln(sh.out)
	t := newTable(sh.out, "SEGMENT", "LANE", "RECORDS", "HELD", "FIRST", "SIZE", "INDEX", "KEY")
	for _, g := range r.Segments {
		index := map[bool]string{true: "yes", false: "no"}[g.Indexed]
		t.row(g.File, strconv.Itoa(g.Lane), count(g.Records), count(g.Held), strconv.FormatUint(g.First, 10), size(float64(g.Bytes)), index, cmp.Or(g.Key, "-"))
	}
	return t.end()
}

// overview is the part above the list of segments.
func overview(dir string, r *spool.Report) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(clean(fmt.Sprintf(format, args...)) + "\n") }
	line("spool    %s, epoch %s", dir, r.Epoch)
	if r.InUse {
		line("         in use by a process: the newest records may be missing")
	}
	state := r.State
	if !r.Saved.IsZero() {
		state += ", written " + r.Saved.UTC().Format(time.DateTime+" MST")
	}
	line("state    %s; %s appended, %s done, next sequence %d", state, count(r.Appended), count(r.Done), r.Next)
	line("held     %s records, %s; segments on disk %s", count(r.Held), size(float64(r.Bytes)), size(float64(r.Disk)))
	if len(r.Classes) > 0 {
		line("classes  %s", classesOf(r))
	}
	if r.Torn > 0 {
		line("torn     %s of an unconfirmed commit; the next start cuts it off without loss", size(float64(r.Torn)))
	}
	if r.Locked > 0 {
		line("locked   %s records, key missing", count(r.Locked))
	}
	for _, d := range damaged(r) {
		line("! %s", d)
	}
	if len(r.Kept) > 0 {
		line("aside    in %s/quarantine, damaged places found before: %d, %s", dir, len(r.Kept), strings.Join(r.Kept[:min(len(r.Kept), 5)], ", "))
	}
	return b.String()
}

// classesOf lists the held records by class, most first.
func classesOf(r *spool.Report) string {
	names := slices.SortedFunc(maps.Keys(r.Classes), func(a, b string) int {
		return cmp.Or(r.Classes[b]-r.Classes[a], strings.Compare(a, b))
	})
	for i, name := range names {
		names[i] = clean(name) + " " + count(r.Classes[name])
	}
	return strings.Join(names, ", ")
}
