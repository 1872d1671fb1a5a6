package decision

// Target is where a task is processed.
type Target uint8

// The two ways.
const (
	Local Target = iota
	Cloud
)

// Arm says on which side of a canary's comparison a decision stands.
type Arm uint8

// The arms. A decision is in none where no canary runs, or where the class has a policy of its own.
const (
	NoArm Arm = iota
	Incumbent
	Canary
)

// Decision is the answer of a policy for one task. It is a value and holds no pointers into the task.
type Decision struct {
	Target Target `json:"target"`
	// Score is in [0,1], and at or above Threshold it means cloud. Only the preset "article" of policy weighted, which is
	// to the letter, falls below 0 for data over 1,024 KB.
	Score      float64 `json:"score"`
	Threshold  float64 `json:"threshold"`  // what the score was held against; of GuardBacklog the limit; 0 without one
	Terms      Terms   `json:"terms"`      // of which the score is made, in policy weighted
	Propensity float64 `json:"propensity"` // probability with which the policy chose this target, in (0,1]
	Reason     Reason  `json:"reason"`
	Confidence float64 `json:"confidence,omitempty"` // of the answer of the local model, 0 without one
	Arm        Arm     `json:"-"`                    // stands in the Entry
}

// Terms are the shares of a weighted score, each with its weight already applied.
type Terms struct {
	Size       float64 `json:"size"`
	Complexity float64 `json:"complexity"`
	CPU        float64 `json:"cpu"`
}

// Reason is why a decision fell as it did; the explanation turns it into a sentence.
type Reason uint8

// The reasons. Guards come first: they stand above every policy.
const (
	ReasonNone      Reason = iota
	GuardLinkDown          // the link is down
	GuardBacklog           // the spool is fuller than allowed
	GuardNeverLeave        // the class forbids that the data leaves
	GuardMemory            // tasks wait for memory for longer than allowed
	GuardBattery           // the battery is emptier than allowed
	GuardPrice             // bytes cost more than allowed at this hour
	GuardOutside           // features outside of what a learned policy was trained on
	AboveThreshold         // score ≥ threshold
	BelowThreshold         // score < threshold
	LocalMeets             // the local result is predicted in time
	LocalMisses            // the local result is predicted late and the cloud's is not later
	BothMissLocal          // both late, local by less
	CheaperLocal           // predicted cost is lower here
	CheaperCloud           // predicted cost is lower there
	Fixed                  // the policy always answers this
	Drawn                  // a random draw
	Explored               // forced sampling
	SpoolFull              // decided for the cloud, done here because the spool was full
	NoOperator             // decided for this node, which has no operator for such data: it would only be thrown away
	LocalFailed            // decided for this node, whose operators failed: sent instead
	BoundLocal             // it waited, and of all that waited gains most by the node, which is free
	BoundCloud             // it waited, and of all that waited gains most by the link, which is free
	LongestWait            // it waited as long as any may, and goes to the cloud in its turn
	Undecided              // it waits until node or link is free; the target is what it would have been without waiting
	LetGo                  // it waited, and the service that was to bind it stopped: it goes to the cloud
	Dominated              // the policy chose the other target, which is predicted slower and no cheaper in anything
	HardExample            // the local model has answered, not surely enough: the answer is provisional, and the cloud is asked
	JudgedHard             // the latest answers about this device were hard, so the cloud is asked at once
	ModelBusy              // decided for this node, whose queue of models is full: sent instead
	Overload               // both paths are overloaded, and its class gives way: dropped
	TooLate                // neither path can finish it before it is of no use any more: dropped
	Rerouted               // the path that its policy chose is overloaded, and the other one is not
	Reduced                // both paths are overloaded: processed locally in the reduced form of its class
	Sooner                 // the policy chose the other target, which is predicted far too late, and later than this one
)
