package policy

// Info describes a policy to a user.
type Info struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	WhenNot string `json:"whenNot"` // when not to use it
}

// registered is a policy with the way to make it. The configuration given to build is valid.
type registered struct {
	Info
	build func(Config) Policy
}

// list is all there is. A new policy is one file and one line here.
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

// New makes the policy of that name.
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

// All makes every policy there is, in the order of List. The configuration is valid.
func All(c Config) []Policy {
	var all []Policy
	for _, one := range list() {
		all = append(all, one.build(c))
	}
	return all
}
