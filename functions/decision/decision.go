package decision

// Target is where a task is processed.
type Target uint8

// The two targets.
const (
	Local Target = iota
	Cloud
)

// Arm is the side of a canary's comparison on which a decision is.
type Arm uint8

// The arms. A decision is in none if no canary runs, or if its class names a policy.
const (
	NoArm Arm = iota
	Incumbent
	Canary
)

// Decision is the result of a policy for one task. It is a value and holds no pointers into the task.
type Decision struct {
	Target Target `json:"target"`
	// Score is in [0,1], and at or above Threshold it means cloud. Only the preset "article" of policy weighted, which is exact, falls below 0 for data
	// over 1,024 KB.
	Score      float64 `json:"score"`
	Threshold  float64 `json:"threshold"`  // threshold of the score; of GuardBacklog the limit; 0 without one
	Terms      Terms   `json:"terms"`      // parts of the score, in policy weighted
	Propensity float64 `json:"propensity"` // probability with which the policy chose this target, in (0,1]
	Reason     Reason  `json:"reason"`
	Confidence float64 `json:"confidence,omitempty"` // of the answer of the local model, 0 without one
	Arm        Arm     `json:"-"`                    // JSON has it in the Entry
}

// Terms are the terms of a weighted score, each with its weight already applied.
type Terms struct {
	Size       float64 `json:"size"`
	Complexity float64 `json:"complexity"`
	CPU        float64 `json:"cpu"`
}

// Reason is the reason of a decision; Explain turns it into a sentence.
type Reason uint8

// The reasons. Guards come first, as they are above every policy.
const (
	ReasonNone      Reason = iota
	GuardLinkDown          // the link is down
	GuardBacklog           // the spool is fuller than allowed
	GuardNeverLeave        // the class forbids that the data leave
	GuardMemory            // tasks wait for memory for longer than allowed
	GuardBattery           // the battery is emptier than allowed
	GuardPrice             // bytes cost more than allowed at this hour
	GuardOutside           // features outside of what a learned policy was trained on
	AboveThreshold         // score ≥ threshold
	BelowThreshold         // score < threshold
	LocalMeets             // the local result is predicted in time
	LocalMisses            // the local result is predicted late and the cloud's is not later
	BothMissLocal          // both late, local by less
	CheaperLocal           // predicted cost is lower locally
	CheaperCloud           // predicted cost is lower in the cloud
	Fixed                  // the policy always decides the same
	Drawn                  // a random draw
	Explored               // forced exploration
	SpoolFull              // decided for the cloud, done locally because the spool was full
	NoOperator             // decided for local, but no operator reads such data: it would only be discarded
	LocalFailed            // decided for local, but the operators failed: sent instead
	BoundLocal             // parked, and of all parked tasks gains most by the node, which is free
	BoundCloud             // parked, and of all parked tasks gains most by the link, which is free
	LongestWait            // parked for the longest allowed time: it goes to the cloud in its turn
	Undecided              // parked until node or link is free; the target is that of a decision without parking
	LetGo                  // parked, and the service that was to bind it stopped: it goes to the cloud
	Dominated              // the policy chose the other target, which is predicted slower and no cheaper in anything
	HardExample            // the local model's answer was not certain enough: it is provisional, and the cloud is asked
	JudgedHard             // the latest answers about this device were hard, so the cloud is asked without a local run
	ModelBusy              // decided for local, but the queue of models is full: sent instead
	Overload               // both paths are overloaded, and its class gives way: dropped
	TooLate                // neither path can finish it while its result is useful: dropped
	Rerouted               // the path chosen by its policy is overloaded, and the other one is not
	Reduced                // both paths are overloaded: processed locally in the reduced form of its class
	Sooner                 // the policy chose the other target, which is predicted far too late, and later than this one
)
