package ctl

import (
	"context"
	"errors"
	"fmt"

	"app-offload/functions/keys"
	"app-offload/functions/spool"
)

var spoolManual = manual{
	name: "spool", arguments: "VERB DIR [flags]",
	purpose: `
  Looks after the spool on disk, DIR, which is the service's Offload.Spool.Directory. Only repair changes it. Stop the service
  first; run the tool as the service's user, or files that it writes cannot be read by the service.
`,
	examples: `
  docker compose stop app-offload && docker compose run --rm --entrypoint /offloadctl app-offload spool verify /spool
  offloadctl spool inspect /var/lib/app-offload/spool
  offloadctl spool export /spool > records.jsonl
`,
	verbs: spoolVerbs(),
	files: `
  DIR    segments, indexes, state and quarantine; functions/spool/FORMAT.md in the source describes them
`,
	exits: `
  0 fine; 1 damage, or it could not be read; 2 wrong usage
`,
}

func spoolVerbs() []verb {
	return []verb{
		{"inspect", "what is in it: epoch, records by class, segments, what was quarantined", inspectVerb},
		{"verify", "read every byte and check every checksum; exit code 1 names the damage", verifyVerb},
		{"repair", "set damage aside, cut torn ends off, write state and indexes anew; the rest stays", repairVerb},
		{"export", "every record as a line of JSON: its task with metadata and data", exportVerb},
	}
}

func spoolVerb(ctx context.Context, sh *shell, args []string) error {
	return sh.group(ctx, spoolManual, args)
}

// spoolFlags are the flags and the argument that all verbs of spool take.
type spoolFlags struct {
	*flagSet
	dir, keys string
	opts      []spool.Option
}

func (sh *shell) spooling(man manual) *spoolFlags {
	f := &spoolFlags{flagSet: sh.flags(man)}
	f.StringVar(&f.keys, "keys", "", "folder with the keys of an encrypted spool, one a file named by its id, as for offload-cloud")
	return f
}

// read reads the flags, the directory and the keys, where there are any.
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

// readAside reads as read does, and refuses a directory that a process has open unless -live allows it.
func (f *spoolFlags) readAside(args []string) error {
	live := f.Bool("live", false, "also beside the running service")
	if err := f.read(args); err != nil {
		return err
	}
	r, err := spool.Inspect(f.dir, f.opts...)
	if err == nil && r.InUse && !*live {
		err = fmt.Errorf("%s: %w", f.dir, errInUse)
	}
	return err
}

var errInUse = errors.New("the spool is in use, most likely by the running app-offload; stop it first (`docker compose stop app-offload`), or add " +
	"-live to read beside it, when what is newest may be missing or half written")

// damaged lists what is wrong with a spool, in words.
func damaged(r *spool.Report) []string {
	var found []string
	for _, d := range r.Damages {
		what := "no record that can be named"
		if d.Seq > 0 {
			what = fmt.Sprintf("record %d of class %q", d.Seq, d.Class)
		}
		found = append(found, fmt.Sprintf("%s at %d, %d bytes, lane %d: %s (%s)", d.File, d.Offset, d.Length, d.Lane, d.Reason, what))
	}
	if r.State == stateLost {
		found = append(found, "the state is lost: counts begin anew, and records that were already done come back")
	}
	return append(found, r.Notes...)
}

// stateLost is the spool's word for a state of which no copy is intact.
const stateLost = "lost"
