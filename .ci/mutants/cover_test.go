package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What a test runs is known by its functions when these move to another file.
func TestKeepFollowsFunctionsToOtherFiles(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(root, "p", name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(root, "p"), 0o700); err != nil {
		t.Fatal(err)
	}
	test := write("p_test.go", "package p\n\nfunc TestA() { a() }\n")
	declared, err := readSource(test)
	if err != nil {
		t.Fatal(err)
	}
	before := &reach{Files: map[string]*source{}, Tests: []*reached{
		{Name: "TestA", File: declared.Hash, Blocks: map[string][]span{"p/a.go": {{4, 5}}, "p/same.go": {{3, 3}}, "p/grown.go": {{3, 3}}}},
	}}
	for name, text := range map[string]string{"a.go": "package p\n\nfunc a() {\n\n}\n", "same.go": "package p\n\nfunc s() {}\n", "grown.go": "package p\n\nfunc g() {}\n"} {
		if before.Files["p/"+name], err = readSource(write(name, text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(root, "p", "a.go")); err != nil {
		t.Fatal(err)
	}
	write("b.go", "package p\n\nvar x int\n\nfunc a() {\n\n}\n")
	write("grown.go", "package p\n\n// g is.\nfunc g() {}\n\nfunc h() {}\n")
	r := &reach{Files: map[string]*source{}}
	r.keep(root, filepath.Join(root, "p"), before)
	want := map[string][]span{"p/b.go": {{5, 7}}, "p/same.go": {{3, 3}}, "p/grown.go": {{4, 4}}}
	if len(r.Tests) != 1 || !reflect.DeepEqual(r.Tests[0].Blocks, want) {
		t.Errorf("want %v, have %v", want, r.Tests[0].Blocks)
	}
	if r.Files["p/b.go"] == nil || r.Files["p/a.go"] != nil {
		t.Errorf("the files that there are: %v", r.Files)
	}
}
