package main

import (
	"fmt"
	"os"
	"path/filepath"

	"app-offload/functions/policy"
)

// policies returns the default configuration of policies. It finds the weights of policy ppo also beside the binary, for a lab run from another
// folder, and warns if they are missing, since ppo would then silently decide as cost.
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
	fmt.Fprintf(os.Stderr, "%s not found: policy ppo decides as cost\n", shipped)
	c.PPOWeights = shipped
	return c
}
