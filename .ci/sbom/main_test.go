package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

// A licence with terms of its own before it is not taken for the licence alone.
func TestALicenceWithTermsOfItsOwn(t *testing.T) {
	text, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	if found, err := scan(m, "LICENSE", text); err != nil || len(found) != 1 || found[0] != "Apache-2.0" {
		t.Fatalf("the licence alone is %v, %v", found, err)
	}
	terms := strings.Repeat("Commercial users of this software owe its author a tenth of their income, and must not redistribute it. ", 100)
	if found, err := scan(m, "LICENSE", append([]byte(terms), text...)); err == nil {
		t.Fatalf("with terms of its own it is %v", found)
	}
}
