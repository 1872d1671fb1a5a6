package models

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"aead.dev/minisign"

	"app-offload/functions/check"
	"app-offload/functions/engine"
	"app-offload/functions/engine/onnxruntime"
)

// Names of files in a model's folder.
const (
	ManifestFile  = "manifest.json"
	SignatureFile = "manifest.json.minisig"
)

// Fixed limits of a manifest.
const (
	maxManifest = 64 << 10 // bytes
	maxLabels   = 1000
	maxLabel    = 64 // bytes
	maxTensors  = 16
	maxClasses  = 64
	maxElements = 1 << 24 // of an input or output
)

// Variants are the places where models run.
const (
	Edge  = "edge"
	Cloud = "cloud"
)

// Manifest describes one version of a model: its file, its tensors, the conversion of a reading to its input, and of its output to an answer. A
// signature of the manifest's bytes also covers the model, since the manifest contains its digest. FORMAT.md is the reference.
type Manifest struct {
	Format  int      `json:"format"`            // 1
	Name    string   `json:"name"`              // lower case letters, digits, - and _; at most 48 bytes
	Version Version  `json:"version"`           // such as 1.4.0
	Variant string   `json:"variant"`           // edge or cloud
	Engine  string   `json:"engine"`            // tflite, onnx or onnxruntime
	File    string   `json:"file"`              // in the folder of the manifest
	SHA256  string   `json:"sha256"`            // of the file, 64 hexadecimal digits in lower case
	Size    int64    `json:"size"`              // of the file, in bytes
	Classes []string `json:"classes,omitempty"` // classes of tasks that the cloud computes with this model
	Memory  int64    `json:"memory"`            // maximum memory of the program with one session, in bytes; 0 means 8 × size + 4 MiB

	Inputs  []Tensor `json:"inputs,omitempty"`  // compared with the file if given
	Outputs []Tensor `json:"outputs,omitempty"` // compared with the file if given
	Labels  []string `json:"labels,omitempty"`  // of the output's elements, in order
	Input   Input    `json:"input"`
	Output  Output   `json:"output"`
}

// Tensor is the declared type and shape of an input or output.
type Tensor struct {
	Name  string `json:"name,omitempty"`
	Type  string `json:"type"` // such as int8
	Shape []int  `json:"shape"`
}

// TensorsOf returns the declarations of an engine's tensors.
func TensorsOf(specs []engine.Spec) []Tensor {
	list := make([]Tensor, len(specs))
	for i := range specs {
		list[i] = Tensor{Name: specs[i].Name, Type: specs[i].Type.String(), Shape: slices.Clone(specs[i].Shape)}
	}
	return list
}

// ParseManifest parses a manifest. It rejects unknown keys, since a misspelt key would silently change the results of a model.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("reading a manifest: %d bytes, at most %d are allowed", len(b), maxManifest)
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("reading a manifest: byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading a manifest: byte %d: expected the end", d.InputOffset())
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	return m, nil
}

// Validate reports all problems together.
func (m *Manifest) Validate() error {
	p := check.In("")
	if m.Format != 1 {
		p.Addf("format", m.Format, "must be 1")
	}
	if !validName(m.Name) {
		p.Addf("name", cut(m.Name), "must be 1 to 48 bytes of a–z, 0–9, - and _, and begin with a letter or digit")
	}
	if m.Version.Check() != nil {
		p.Addf("version", cut(string(m.Version)), "must be numbers separated by dots, such as 1.4.0")
	}
	p.OneOf("variant", cut(m.Variant), Edge, Cloud)
	p.OneOf("engine", cut(m.Engine), TFLite, ONNX, ONNXRuntime)
	if !validFile(m.File) {
		p.Addf("file", cut(m.File), "must be the plain name of a file beside the manifest, of letters, digits, '.', '-' and '_'")
	}
	if raw, err := hex.DecodeString(m.SHA256); err != nil || len(raw) != sha256.Size || m.SHA256 != strings.ToLower(m.SHA256) {
		p.Addf("sha256", cut(m.SHA256), "must be 64 hexadecimal digits in lower case")
	}
	check.Range(p, "size", m.Size, 1, math.MaxInt32)
	check.Range(p, "memory", m.Memory, 0, 16<<30)
	validTensors(p, "inputs", m.Inputs)
	validTensors(p, "outputs", m.Outputs)
	if len(m.Labels) > maxLabels {
		p.Addf("labels", len(m.Labels), "must be at most %d", maxLabels)
	}
	for _, l := range m.Labels {
		if l == "" || len(l) > maxLabel || !check.Printable(l) {
			p.Addf("labels", cut(l), "must each be 1 to %d bytes of printable text", maxLabel)
			break
		}
	}
	if len(m.Classes) > maxClasses {
		p.Addf("classes", len(m.Classes), "must be at most %d", maxClasses)
	}
	for _, c := range m.Classes {
		if c == "" || len(c) > maxLabel || !check.Printable(c) {
			p.Addf("classes", cut(c), "must each be 1 to %d bytes of printable text", maxLabel)
			break
		}
	}
	m.Input.validate(p)
	m.Output.validate(p, len(m.Labels))
	return p.Err()
}

func validTensors(p *check.Problems, key string, list []Tensor) {
	if len(list) > maxTensors {
		p.Addf(key, len(list), "must be at most %d", maxTensors)
	}
	for i, t := range list {
		n := 1
		for _, d := range t.Shape {
			if d < 1 || d > maxElements/n {
				p.Addf(fmt.Sprintf("%s[%d].shape", key, i), t.Shape, "must have positive dimensions and at most %d elements", maxElements)
				break
			}
			n *= d
		}
	}
}

// memory returns the memory limit with one session.
func (m *Manifest) memory() int64 {
	if m.Memory > 0 {
		return m.Memory
	}
	return 8*m.Size + 4<<20
}

// Folder returns the name of the version's folder in a store.
func (m *Manifest) Folder() string {
	return m.Name + "." + m.Variant + "." + string(m.Version)
}

// fits compares the declared tensors with the file.
func (m *Manifest) fits(info *engine.Info) error {
	for _, side := range []struct {
		what  string
		said  []Tensor
		found []engine.Spec
	}{{"input", m.Inputs, info.Inputs}, {"output", m.Outputs, info.Outputs}} {
		if len(side.said) == 0 {
			continue
		}
		if len(side.said) != len(side.found) {
			return fmt.Errorf("the manifest has %d %ss, the file %d", len(side.said), side.what, len(side.found))
		}
		for i, t := range side.said {
			f := &side.found[i]
			if t.Type != f.Type.String() || !slices.Equal(t.Shape, f.Shape) {
				return fmt.Errorf("%s %d is %s%v in the manifest and %s%v in the file", side.what, i, t.Type, t.Shape, f.Type, f.Shape)
			}
		}
	}
	return nil
}

// Describe returns a manifest of a file, for its author to complete. It has the engine's shapes, the file's digest, and a memory limit a quarter
// above the present need.
func Describe(name string, file []byte, memory int64) (*Manifest, error) {
	kind := EngineOf(file)
	program, err := Load(kind, file, memory, onnxruntime.DefaultConfig())
	if err != nil {
		return nil, err
	}
	defer Close(program)
	info := program.Info()
	digest := sha256.Sum256(file)
	m := &Manifest{
		Format: 1, Name: name, Version: "1", Variant: Edge, Engine: kind, File: "model." + kind,
		SHA256: hex.EncodeToString(digest[:]), Size: int64(len(file)), Memory: footprint(file, &info)*5/4 + 4<<10,
		Inputs: TensorsOf(info.Inputs), Outputs: TensorsOf(info.Outputs), Input: Input{Kind: Numbers}, Output: Output{Kind: Values},
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("describing a model: %w", err)
	}
	return m, nil
}

// ErrName describes valid names of models.
var ErrName = errors.New("must be the name of a model: 1 to 48 bytes of a–z, 0–9, - and _, beginning with a letter or digit")

// ValidName reports whether a text is a valid name of a model.
func ValidName(name string) bool { return validName(name) }

func validName(name string) bool {
	return len(name) >= 1 && len(name) <= 48 && only(name, "-_") && name[0] != '-' && name[0] != '_' && strings.ToLower(name) == name
}

func validFile(name string) bool {
	return len(name) >= 1 && len(name) <= 64 && only(name, "-_.") && name[0] != '.' && name != ManifestFile && name != SignatureFile
}

// only reports whether a text consists of letters, digits and the given other bytes.
func only(text, others string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// cut truncates foreign text for errors.
func cut(text string) string { return check.Cut(text, maxLabel) }

// Version is the version of a model: one to four numbers below 2³¹, separated by dots and without leading zeros, such as 1.4.0. A missing number counts as 0.
type Version string

const maxVersionParts = 4

// parts returns the numbers of a version.
func (v Version) parts() (list [maxVersionParts]uint64, err error) {
	fields := strings.Split(string(v), ".")
	if len(fields) > maxVersionParts {
		return list, fmt.Errorf("version %.64q has more than %d numbers", string(v), maxVersionParts)
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != f {
			return list, fmt.Errorf("version %.64q must be numbers separated by dots, such as 1.4.0", string(v))
		}
		list[i] = n
	}
	return list, nil
}

// Check returns what is wrong with a version, nil if it is valid.
func (v Version) Check() error {
	_, err := v.parts()
	return err
}

// Compare returns a number below 0 if v is older than w, and above 0 if it is newer. An invalid version is older than all valid ones.
func (v Version) Compare(w Version) int {
	a, errA := v.parts()
	b, errB := w.parts()
	if errA != nil || errB != nil {
		return cmp.Compare(btoi(errA == nil), btoi(errB == nil))
	}
	for i := range a {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// maxSignature is the maximum size of a signature file, enough for two long comments.
const maxSignature = 4 << 10

// Trust holds the public keys of accepted signatures. The zero value accepts unsigned manifests.
type Trust struct{ keys []minisign.PublicKey }

// ParseTrust parses public keys in minisign's format: either the base64 line or the whole file. An empty list requires no signatures.
func ParseTrust(keys []string) (Trust, error) {
	var t Trust
	for i, text := range keys {
		var k minisign.PublicKey
		if err := k.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return Trust{}, fmt.Errorf("reading public key %d (%.80q): %w; use the last line of the .pub file that minisign -G writes", i, text, err)
		}
		t.keys = append(t.keys, k)
	}
	return t, nil
}

// Required reports whether manifests must be signed.
func (t Trust) Required() bool { return len(t.keys) > 0 }

// Rollback returns the newest version that the signed, older version may replace. The trusted comment names it in a word such as rollback:1.5.0.
// Without such a word the result is "". Rollback does not verify the signature.
func Rollback(signature []byte) Version {
	var s minisign.Signature
	if s.UnmarshalText(signature) != nil {
		return ""
	}
	for word := range strings.FieldsSeq(s.TrustedComment) {
		if text, is := strings.CutPrefix(word, "rollback:"); is && Version(text).Check() == nil {
			return Version(text)
		}
	}
	return ""
}

// Verify verifies the signature of a manifest's bytes: Ed25519 over their BLAKE2b-512 digest (ED), or over the bytes themselves (Ed, from old
// minisigns), and the signature of the trusted comment. It returns the trusted comment. Without keys, every manifest passes.
func (t Trust) Verify(manifest, signature []byte) (comment string, err error) {
	if !t.Required() {
		return "", nil
	}
	if len(signature) == 0 {
		return "", errors.New("the manifest is not signed, and signatures are required; sign it with minisign -S -m " + ManifestFile)
	}
	if len(signature) > maxSignature {
		return "", fmt.Errorf("the signature has %d bytes, at most %d are allowed", len(signature), maxSignature)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("reading the signature: %w", err)
	}
	for _, k := range t.keys {
		if k.ID() != s.KeyID {
			continue
		}
		if minisign.Verify(k, manifest, signature) {
			return s.TrustedComment, nil
		}
		return "", fmt.Errorf("the signature by key %016X does not fit the manifest", s.KeyID)
	}
	return "", fmt.Errorf("the signature is by key %016X, which is not trusted", s.KeyID)
}
