package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"app-offload/functions/spool"
)

var repairManual = manual{
	name: "spool repair", arguments: "DIR [flags]",
	purpose: `
  Reads every byte of a spool, sets what is damaged aside in DIR/quarantine, cuts torn ends off, writes state and indexes
  anew, and says what it did. Nothing is wiped: damaged bytes stay in the quarantine as far as its bound allows. The service
  does the same at its start, but trusts the indexes it wrote. Each record lost counts as dropped, reason quarantined, and the
  cloud is told.
`,
	examples: `
  offloadctl spool verify /spool || offloadctl spool repair /spool
  offloadctl spool repair -json /spool | jq '.damages | length'
`,
	files: `
  DIR             is rewritten; no other process may have it open
  DIR/quarantine  gets what is damaged
  -keys           a folder with a key a file, named by its id, as for offload-cloud
`,
	exits: `
  0 it is in order now, also if something was lost; 1 it could not be repaired, such as while it is in use; 2 wrong usage
`,
}

func repairVerb(_ context.Context, sh *shell, args []string) error {
	f := sh.spooling(repairManual)
	asJSON := f.Bool("json", false, "as JSON")
	if err := f.read(args); err != nil {
		return err
	}
	return repair(f.dir, sh.out, *asJSON, f.opts...)
}

// repair puts a directory in order and says what it did.
func repair(dir string, out io.Writer, asJSON bool, opts ...spool.Option) error {
	r, err := spool.Repair(dir, opts...)
	if err != nil {
		return explainLock(dir, err)
	}
	if asJSON {
		return writeJSON(out, r)
	}
	if len(r.Damages) == 0 && r.Torn == 0 {
		fmt.Fprintf(out, "%s: nothing was damaged\n", dir)
	}
	for _, d := range r.Damages {
		fmt.Fprintln(out, clean(setAside(dir, d)))
	}
	if r.Torn > 0 {
		fmt.Fprintf(out, "%s: cut off %s of commits that were never confirmed\n", dir, size(float64(r.Torn)))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "%s: %s\n", dir, clean(n))
	}
	_, err = fmt.Fprintf(out, "%s: state and indexes are written anew; %s records are held, %s\n", dir, count(r.Held), size(float64(r.Bytes)))
	return err
}

// explainLock says what to do about a directory that is in use.
func explainLock(dir string, err error) error {
	if errors.Is(err, spool.ErrLocked) {
		return fmt.Errorf("%s: the spool is in use, most likely by the running app-offload; stop it first (`docker compose stop app-offload`) (%w)", dir, err)
	}
	return err
}

func setAside(dir string, d spool.Damage) string {
	what := "what it was cannot be told"
	if d.Seq > 0 {
		what = fmt.Sprintf("record %d of class %q is lost", d.Seq, d.Class)
	}
	kept := "its bytes could not be kept"
	if d.Kept != "" {
		kept = "its bytes are in " + d.Kept
	}
	return fmt.Sprintf("%s: quarantined %s at %d, %d bytes: %s; %s, %s", dir, d.File, d.Offset, d.Length, d.Reason, what, kept)
}
