package rl

import (
	"fmt"
	"math"
	"strconv"

	"app-offload/functions/policy"
)

// Network returns the actor in the service's file form. Inputs without a name get their number.
func (a *Actor) Network(made string, names ...string) *policy.Network {
	n := &policy.Network{Made: made}
	for k := range a.Net.Sizes[0] {
		in := policy.Input{Name: strconv.Itoa(k), Deviation: 1, Low: -math.MaxFloat32, High: math.MaxFloat32}
		if k < len(names) {
			in.Name = names[k]
		}
		if a.Norm != nil {
			in.Mean, in.Deviation, in.Low, in.High = a.Norm.Mean[k], math.Sqrt(a.Norm.Var[k]+tiny), a.Norm.Low[k], a.Norm.High[k]
		}
		n.Inputs = append(n.Inputs, in)
	}
	for l := range a.Net.Depth() {
		w, b := a.Net.Layer(l)
		n.Layers = append(n.Layers, policy.Layer{Weights: w, Bias: b})
	}
	return n
}

// Load creates an actor from a file for an environment with the given numbers of observations and actions.
func Load(n *policy.Network, observation, actions int) (*Actor, error) {
	if len(n.Inputs) != observation || n.Outputs() != actions {
		return nil, fmt.Errorf("the network has %d inputs and %d outputs; the environment has %d observations and %d actions",
			len(n.Inputs), n.Outputs(), observation, actions)
	}
	norm, net := NewNorm(observation), &Net{Sizes: []int{observation}}
	for k, in := range n.Inputs {
		norm.Mean[k], norm.Var[k], norm.Low[k], norm.High[k] = in.Mean, in.Deviation*in.Deviation-tiny, in.Low, in.High
	}
	for _, l := range n.Layers {
		net.Sizes = append(net.Sizes, len(l.Bias))
		net.Params = append(append(net.Params, l.Weights...), l.Bias...)
	}
	return NewActor(net, norm), nil
}
