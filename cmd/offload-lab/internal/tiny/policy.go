package tiny

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"strings"
	"text/template"

	"app-offload/functions/policy"
)

//go:embed network.c.txt network.go.txt
var networkTexts embed.FS

var networkFiles = template.Must(template.New("").Funcs(template.FuncMap{"list": listed}).ParseFS(networkTexts, "*"))

// network is the data of the file templates.
type network struct {
	Options
	Size
	Net   *policy.Network
	Names string       // of the inputs
	Rows  [][4]float64 // inputs as in training: mean, factor, low and high
	Width int          // of the widest layer
}

func listed(list []float64, format string) (string, error) {
	var b strings.Builder
	p := &printer{w: &b}
	numbers(p, list, format, 6)
	return b.String(), p.err
}

// Numbers is the number of these constants.
func (n *network) Numbers() int { return 4 * len(n.Rows) }

// Last is 1 for the last layer.
func (n *network) Last(layer int) int {
	if layer == len(n.Net.Layers)-1 {
		return 1
	}
	return 0
}

// Call is the output and input of a layer in the code, with their sizes.
func (n *network) Call(layer int) string {
	arrays, l := [2]string{"one", "two"}, &n.Net.Layers[layer]
	to := arrays[1-layer%2]
	if n.Last(layer) == 1 {
		to = "out"
	}
	return fmt.Sprintf("%s, %s, %d, %d", to, arrays[layer%2], len(l.Bias), len(l.Weights)/len(l.Bias))
}

// newNetwork counts the constants of a network, and the two arrays of its widest layer.
func newNetwork(net *policy.Network, o Options) (*network, error) {
	n := &network{Options: o, Net: net, Width: len(net.Inputs)}
	var names []string
	for _, x := range net.Inputs {
		names = append(names, x.Name)
		n.Rows = append(n.Rows, [4]float64{x.Mean, 1 / x.Deviation, x.Low, x.High})
	}
	n.Names, n.Flash = strings.Join(names, ", "), 8*n.Numbers()
	for _, l := range net.Layers {
		n.Flash += 8 * (len(l.Weights) + len(l.Bias))
		n.Width = max(n.Width, len(l.Bias))
	}
	n.RAM = 2 * 8 * n.Width
	return n, o.Validate()
}

// PolicyC writes the network of a policy as one file of C99. It computes in double and needs exp of libm, whose last bit differs between libraries;
// so may that of the outputs.
func PolicyC(w io.Writer, net *policy.Network, o Options) (Size, error) {
	n, err := newNetwork(net, o)
	if err != nil {
		return Size{}, err
	}
	return n.Size, networkFiles.ExecuteTemplate(w, "network.c.txt", n)
}

// PolicyGo writes the network of a policy as one file of Go, which gives the bits of the service's own.
func PolicyGo(w io.Writer, net *policy.Network, o Options) (Size, error) {
	n, err := newNetwork(net, o)
	if err != nil {
		return Size{}, err
	}
	var b bytes.Buffer
	p := &printer{err: networkFiles.ExecuteTemplate(&b, "network.go.txt", n)}
	return n.Size, p.goTo(w, b.Bytes())
}
