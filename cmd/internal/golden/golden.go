// Package golden compares the output of a test with a file under testdata. The flag -update rewrites the files.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// Update is the flag -update of a test.
var Update = flag.Bool("update", false, "rewrite the golden files")

// Require fails the test unless text equals the file of that name under testdata. With -update it writes the file.
func Require(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *Update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Fatalf("%s differs; run the test with -update if the new text is right\n%s", path, diff(string(want), text))
	}
}
