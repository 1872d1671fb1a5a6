package ctl

import (
	"context"
	"fmt"
	"io"

	"app-offload/functions/spool"
)

var verifyManual = manual{
	name: "spool verify", arguments: "DIR [flags]",
	purpose: `
  Reads every byte of a spool, checks every checksum, and decrypts every record if it has the key. It changes nothing.
  A torn end, as every power cut may leave, is no damage: it was never confirmed to anybody.
`,
	examples: `
  offloadctl spool verify /spool
  offloadctl spool verify -keys keys/ /spool               a spool that is encrypted at rest
  offloadctl spool verify -json /spool | jq '.damages[]'
`,
	files: `
  DIR      is read only
  -keys    a folder with a key a file, named by its id, as for offload-cloud
`,
	exits: `
  0 everything was read and is whole; 1 something is damaged, which is named, or could not be checked; 2 wrong usage
`,
}

func verifyVerb(_ context.Context, sh *shell, args []string) error {
	f := sh.spooling(verifyManual)
	asJSON := f.Bool("json", false, "as JSON")
	if err := f.readAside(args); err != nil {
		return err
	}
	return verify(f.dir, sh.out, *asJSON, f.opts...)
}

// verify reads everything, and is errFound unless all of it is whole.
func verify(dir string, out io.Writer, asJSON bool, opts ...spool.Option) error {
	r, err := spool.Verify(dir, opts...)
	if err != nil {
		return err
	}
	bad := damaged(r)
	switch {
	case asJSON:
		err = writeJSON(out, r)
	case len(bad) == 0 && r.Locked == 0:
		_, err = fmt.Fprintf(out, "%s: whole; %s records, %s\n", dir, count(r.Held), size(float64(r.Bytes)))
	default:
		err = tellDamage(dir, r, bad, out)
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
		fmt.Fprintf(out, "%s: %s records are encrypted and were not checked; name the folder with the keys by -keys\n", dir, count(r.Locked))
	}
	if len(r.Damages) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s places are damaged, %s records are held; `offloadctl spool repair %s`, or the next start of the service, "+
		"sets them aside and keeps the rest\n", dir, count(len(r.Damages)), count(r.Held), dir)
	return err
}
