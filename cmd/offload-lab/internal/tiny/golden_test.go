package tiny

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/policy"
)

// The output for a small network, also without a compiler to run it: the whole text, and the digest of the longer output for models and formulas.
func TestWhatIsWrittenIsTheSameAsEver(t *testing.T) {
	const network = `{"format":"app-offload network 1","made":"a test","inputs":[{"name":"a","mean":1,"deviation":2,"low":-1,"high":3},{"name":"b","mean":0,"deviation":0.5,"low":0,"high":9}],
		"layers":[{"weights":[1,2,3,4,5,6],"bias":[0.1,0.2,0.3]},{"weights":[1,-2,3,-4,5,-6],"bias":[7,8]}]}`
	o := Options{Name: "net", Made: "a test"}
	n, err := policy.ReadNetwork(strings.NewReader(network))
	require.NoError(t, err)
	var text bytes.Buffer
	for _, write := range []func() (Size, error){func() (Size, error) { return PolicyC(&text, n, o) }, func() (Size, error) { return PolicyGo(&text, n, o) }} {
		size, err := write()
		require.NoError(t, err)
		fmt.Fprintf(&text, "=== %+v\n", size)
	}
	digest := func(name string, write func(*bytes.Buffer) (Size, error)) {
		var b bytes.Buffer
		size, err := write(&b)
		require.NoError(t, err, name)
		fmt.Fprintf(&text, "%s %+v %x\n", name, size, sha256.Sum256(b.Bytes()))
	}
	all := cases(t, rand.New(rand.NewPCG(1, 1)))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, err := tflite.Load(all[name], tflite.Limits{})
		require.NoError(t, err, name)
		plan, err := p.Plan()
		require.NoError(t, err, name)
		digest(name+".c", func(b *bytes.Buffer) (Size, error) { return C(b, plan, o) })
		digest(name+".go", func(b *bytes.Buffer) (Size, error) { return Go(b, plan, o) })
	}
	for _, p := range policy.All(policy.DefaultConfig()) {
		f, err := policy.FormulaOf(p)
		if err != nil {
			continue
		}
		digest(p.Name()+".c", func(b *bytes.Buffer) (Size, error) { return FormulaC(b, f, o) })
		digest(p.Name()+".go", func(b *bytes.Buffer) (Size, error) { return FormulaGo(b, f, o) })
	}
	golden.Require(t, "written.golden", text.String())
}

// A name is valid in both languages, with up to 40 letters; the command stays within its comment.
func TestNamesOfPrograms(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a_9z": true, strings.Repeat("a", 40): true, "": false, "_a": false, "9": false, "A": false, "a{": false, "a`": false, "a:": false, "a/": false, strings.Repeat("a", 41): false} {
		require.Equal(t, ok, (&Options{Name: name}).Validate() == nil, name)
	}
	for _, made := range []string{"a\nb", "a\rb", "*"} {
		require.Error(t, (&Options{Name: "a", Made: made}).Validate())
	}
}
