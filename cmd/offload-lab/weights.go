package main

import (
	"fmt"
	"os"
	"path/filepath"

	"app-offload/functions/policy"
)

// policies is the configuration by which the lab makes policies: the default one, with the weights of policy ppo found also by a
// lab that is run from another folder, beside its binary. That they are nowhere is told, as ppo would else be cost without a word.
func policies() policy.Config {
	c := policy.DefaultConfig()
	shipped := c.PPOWeights
	if _, err := os.Stat(shipped); err == nil {
		return c
	}
	if binary, err := os.Executable(); err == nil {
		c.PPOWeights = filepath.Join(filepath.Dir(binary), "..", shipped)
		if _, err := os.Stat(c.PPOWeights); err == nil {
			return c
		}
	}
	fmt.Fprintf(os.Stderr, "%s is not here: policy ppo decides as cost\n", shipped)
	c.PPOWeights = shipped
	return c
}
