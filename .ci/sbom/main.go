// sbom writes the bill of materials of programs: a CycloneDX document for each, and one list of licences for all. It reads the modules from the
// binaries themselves, so that it lists the shipped modules and not those of tests. It fails on a licence that is incompatible with Apache-2.0, and
// on a module without a licence. A program built with ONNX Runtime includes its library, listed as in npm's lock file. An image is the programs in
// it; the modules of its base are not listed.
//
//	sbom OUTPUT-FOLDER BINARY… IMAGE=BINARY,BINARY…
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
	"golang.org/x/mod/module"
)

// allowed are the licences, by SPDX id, that a program under Apache-2.0 may contain unchanged.
var allowed = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-2-Clause-Views", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib", "blessing",
}

// either are dual licences with the chosen one, so that the other one need not be allowed.
var either = map[string]string{
	"github.com/eclipse/paho.mqtt.golang": "BSD-3-Clause", // EPL-2.0 or EDL-1.0, which is BSD-3-Clause
}

// leastKnown is the minimum percentage of known licence text in a licence file. A lower percentage may mean additional terms.
const leastKnown = 75

// read are files with a lower percentage that a person has read: they contain no additional terms.
var read = map[string]bool{
	"modernc.org/libc/LICENSE-3RD-PARTY.md":   true, // tables of files and their licences
	"modernc.org/sqlite/LICENSE-3RD-PARTY.md": true, // likewise
	"modernc.org/sqlite/LICENSE-SQLITE":       true, // public domain
	"modernc.org/memory/LICENSE-LOGO":         true, // of a picture that no program contains
}

// documents are licences in a licence file that grant no rights to code.
var documents = []string{"CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0"}

var licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying)([-._].*)?$`)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom OUTPUT-FOLDER BINARY… IMAGE=BINARY,BINARY…")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(out string, binaries []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("creating the output folder: %w", err)
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("finding the module cache: %w", err)
	}
	all, problems := map[string]string{}, []error(nil)
	for _, what := range binaries {
		image, list, isImage := strings.Cut(what, "=")
		if !isImage {
			list = what
		}
		name, licences, revision := filepath.Base(image), map[string]string{}, ""
		for _, binary := range strings.Split(list, ",") {
			info, err := buildinfo.ReadFile(binary)
			if err != nil {
				return fmt.Errorf("reading %s: %w", binary, err)
			}
			found, err := licencesOf(info, strings.TrimSpace(string(cache)))
			problems, revision = append(problems, err), setting(info, "vcs.revision")
			maps.Copy(licences, found)
		}
		maps.Copy(all, licences)
		kind := cdx.ComponentTypeApplication
		if isImage {
			kind = cdx.ComponentTypeContainer
		}
		if err := write(filepath.Join(out, name+".cdx.json"), document(name, kind, revision, licences)); err != nil {
			return err
		}
	}
	if err := list(filepath.Join(out, "licences.tsv"), all); err != nil {
		return err
	}
	fmt.Printf("%d modules in %d programs and images; see %s\n", len(all), len(binaries), out)
	return errors.Join(problems...)
}

// licencesOf returns the licence of each module of a program, by the module's path and version.
func licencesOf(info *buildinfo.BuildInfo, cache string) (licences map[string]string, err error) {
	licences = map[string]string{"std@" + info.GoVersion: "BSD-3-Clause"}
	var problems []error
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		found, err := licence(cache, module.Version{Path: dep.Path, Version: dep.Version})
		if err != nil {
			problems = append(problems, err)
		}
		licences[dep.Path+"@"+dep.Version] = found
	}
	if slices.Contains(strings.Split(setting(info, "-tags"), ","), "onnxruntime") {
		key, found, err := runtimeLibrary()
		licences[key], problems = found, append(problems, err)
	}
	return licences, errors.Join(problems...)
}

// npm marks the library among the modules.
const npm = "npm/"

// runtimeLibrary returns ONNX Runtime's library with the licence shipped beside it in the images.
func runtimeLibrary() (key, licence string, err error) {
	const folder, name = "../onnxruntime/", "onnxruntime-node"
	var lock struct {
		Packages map[string]struct{ Version, License string }
	}
	b, err := os.ReadFile(folder + "package-lock.json")
	if err == nil {
		err = json.Unmarshal(b, &lock)
	}
	text, readErr := os.ReadFile(folder + "LICENSE")
	if err = errors.Join(err, readErr); err != nil {
		return "", "", fmt.Errorf("reading ONNX Runtime's package: %w", err)
	}
	library := lock.Packages["node_modules/"+name]
	m := module.Version{Path: npm + name, Version: library.Version}
	found, err := scan(m, "LICENSE", text)
	if err != nil {
		return "", "", err
	}
	if licence, err = judge(m, found); err == nil && licence != library.License {
		err = fmt.Errorf("%s: its lock file has the licence %q, the text beside it has %q", name, library.License, licence)
	}
	return npm + name + "@" + library.Version, licence, err
}

// scan returns the licences in a file of a module. Too much other text is an error, unless a person has read the file.
func scan(m module.Version, file string, text []byte) (found []string, err error) {
	covered := licensecheck.Scan(text)
	for _, match := range covered.Match {
		found = append(found, match.ID)
	}
	if covered.Percent < leastKnown && !read[m.Path+"/"+file] {
		err = fmt.Errorf("%s: %.0f %% of its file %s is text of known licences, expected at least %d %%; read it, and list it in this tool if it has no additional terms", m, covered.Percent, file, leastKnown)
	}
	return found, err
}

// licence reads a module's licence files, and joins their licences as SPDX does.
func licence(cache string, m module.Version) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, path+"@"+version)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("%s is not in the module cache; run go mod download: %w", m, err)
	}
	var found []string
	for _, e := range entries {
		if e.Type().IsRegular() && licenceFile.MatchString(e.Name()) {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return "", err
			}
			more, err := scan(m, e.Name(), text)
			if err != nil {
				return "", err
			}
			found = append(found, more...)
		}
	}
	return judge(m, found)
}

func judge(m module.Version, found []string) (string, error) {
	if choice, ok := either[m.Path]; ok {
		return choice, nil
	}
	slices.Sort(found)
	found = slices.DeleteFunc(slices.Compact(found), func(id string) bool { return slices.Contains(documents, id) })
	name := strings.Join(found, " AND ")
	if len(found) == 0 {
		return "", fmt.Errorf("%s: no licence found", m)
	}
	for _, id := range found {
		if !slices.Contains(allowed, id) {
			return name, fmt.Errorf("%s: licence %s is not known to be compatible with Apache-2.0; replace the module, or allow the licence in this tool", m, id)
		}
	}
	return name, nil
}

// document describes a program or an image in CycloneDX.
func document(name string, kind cdx.ComponentType, revision string, licences map[string]string) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: name, Type: kind, Name: name, Version: revision,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}}
	var components []cdx.Component
	for _, key := range slices.Sorted(maps.Keys(licences)) {
		path, version, _ := strings.Cut(key, "@")
		purl := "pkg:golang/" + key
		if library, ok := strings.CutPrefix(key, npm); ok {
			path, purl = strings.TrimPrefix(path, npm), "pkg:npm/"+library
		}
		components = append(components, cdx.Component{
			BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl,
			Licenses: &cdx.Licenses{{Expression: licences[key]}},
		})
	}
	bom.Components = &components
	return bom
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func write(path string, bom *cdx.BOM) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the document: %w", err)
	}
	err = cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return errors.Join(err, f.Close())
}

// list writes one line per module for people.
func list(path string, licences map[string]string) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(licences)) {
		name, version, _ := strings.Cut(key, "@")
		fmt.Fprintf(&text, "%s\t%s\t%s\n", name, version, licences[key])
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}
