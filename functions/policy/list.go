package policy

// Info describes a policy to a user.
type Info struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	WhenNot string `json:"whenNot"` // when not to use it
}

// registered is a policy with its constructor. The configuration passed to build is valid.
type registered struct {
	Info
	build func(Config) Policy
}

// list lists all policies. A new policy is one file and one line of it.
func list() []registered {
	return []registered{
		{weightedInfo, newWeighted},
		{deadlineInfo, newDeadline},
		{edgeInfo, newEdge},
		{cloudInfo, newCloud},
		{randomInfo, newRandom},
		{costInfo, newCost},
		{banditInfo, newBandit},
		{ppoInfo, newPPO},
		{deferInfo, newDefer},
	}
}

// List describes all policies.
func List() []Info {
	all := list()
	infos := make([]Info, len(all))
	for i, one := range all {
		infos[i] = one.Info
	}
	return infos
}

// New builds the policy of that name.
func New(name string, c Config) (Policy, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := Known(name); err != nil {
		return nil, err
	}
	var made Policy
	for _, one := range list() {
		if one.Name == name {
			made = one.build(c)
		}
	}
	return made, nil
}

// All builds every policy, in the order of List. The configuration is valid.
func All(c Config) []Policy {
	var all []Policy
	for _, one := range list() {
		all = append(all, one.build(c))
	}
	return all
}
