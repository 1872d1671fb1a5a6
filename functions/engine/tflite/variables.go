package tflite

import (
	"app-offload/functions/engine"
)

// Variables are tensors that persist between runs, identified by handles. Subgraphs that run once set their initial values.

var variables = map[int]builder{
	142: {"VAR_HANDLE", (*compiler).varHandle},
	143: {"READ_VARIABLE", (*compiler).readVariable},
	144: {"ASSIGN_VARIABLE", (*compiler).assignVariable},
}

// maxVariables is the maximum number of variables of a session.
const maxVariables = 256

func (c *compiler) varHandle() {
	if len(c.op.outputs) != 1 || c.op.outputs[0] < 0 {
		c.fail("it has %d outputs", len(c.op.outputs))
	}
	v := c.values[c.op.outputs[0]]
	if v.Type != engine.Invalid {
		c.fail("output %.64q is %s, expected a handle", v.Name, v.Type)
	}
	v.name = c.op.options.string(0, "a container") + "/" + c.op.options.string(1, "a variable's name")
	v.ready = true
}

// variable returns the tensor of a handle, created at its first use in the shape of like.
func (c *compiler) variable(handle, like *value) *engine.Tensor {
	if handle.name == "" {
		c.fail("input %.64q is not a handle of a variable", handle.Name)
	}
	t := c.variables[handle.name]
	if t == nil {
		if len(c.variables) >= maxVariables {
			c.fail("more than %d variables", maxVariables)
		}
		fresh := &value{def: &tensor{}}
		fresh.Spec = like.Spec
		c.allocate(fresh)
		fresh.reset()
		t = &fresh.Tensor
		c.variables[handle.name] = t
		c.s.initial = append([]func(){fresh.reset}, c.s.initial...)
	}
	if t.Type != like.Type || t.Elements() != like.Elements() {
		c.fail("the variable %.64q is %s%v and is used as %s%v", handle.name, t.Type, t.Shape, like.Type, like.Shape)
	}
	return t
}

func (c *compiler) readVariable() {
	handle := c.in(0)
	out := c.out(0)
	t := c.variable(handle, out)
	v := &value{Tensor: *t, def: out.def}
	c.move(v, out, nil)
}

func (c *compiler) assignVariable() {
	handle, in := c.in(0), c.in(1)
	t := c.variable(handle, in)
	v := &value{Tensor: *t, def: in.def}
	c.move(in, v, nil)
}
