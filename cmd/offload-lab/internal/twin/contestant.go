package twin

import (
	"fmt"

	"app-offload/cmd/offload-lab/internal/judge"
	"app-offload/functions/policy"
)

// coin is the share that policy random sends to the cloud in Live.
const coin = 0.45

// settingsOf are the overrides by which the service plays a contestant that is not just a policy.
var settingsOf = map[string][]string{
	"greedy":  {"OFFLOAD_WRITABLE_POLICY_DEFAULT=cost", "OFFLOAD_WRITABLE_POLICY_COSTSHADOW=false"},
	"article": {"OFFLOAD_WRITABLE_POLICY_DEFAULT=weighted", "OFFLOAD_WRITABLE_POLICY_WEIGHTEDPRESET=article"},
}

// configured are the overrides by which the service plays a contestant.
func configured(name string) ([]string, error) {
	env := []string{fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSHARE=%g", coin)}
	if set, ok := settingsOf[name]; ok {
		return append(env, set...), nil
	}
	return append(env, "OFFLOAD_WRITABLE_POLICY_DEFAULT="+name), policy.Known(name)
}

// simulated is the same contestant for the simulator.
func simulated(name string, seed uint64) (policy.Policy, error) {
	c := policy.DefaultConfig()
	c.RandomShare, c.RandomSeed = coin, int(seed%1e9) //nolint:gosec // no overflow below a thousand million
	field, err := judge.Field(name, c)
	if err != nil {
		return nil, err
	}
	return field[0].Make(0)
}
