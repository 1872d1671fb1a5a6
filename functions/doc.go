// Package functions takes events from the EdgeX MessageBus to the cloud, or to a result on the bus.
//
//	receive   receive   a message becomes a task.Event, from whichever source it comes
//	intake              envelope and event are parsed and indexed; the gate bounds what is in flight; quarantine: what is rejected
//	task      split     an event becomes tasks, critical ones first; Join undoes it byte for byte
//	score     score     what either target would cost now
//	decide    decide    local or cloud, with a reason: guards, policy, trial
//	shed      shed      neither, where both are overloaded and the task's class gives way
//	wait      park      tasks that are durable and undecided, until node or link is free
//	local     process   operators; infer: models; results go back to the MessageBus
//	spool     keep      what is to leave is durable first
//	batch     batch     what leaves next: live first, backlog fairly
//	seal      seal      a batch becomes one message: CloudEvents, compressed, encrypted
//	export    export    MQTT, receipts; link: what the link to the broker carries
//	feedback            what came of a decision, for everything that learns
//
// This room puts the stages in order. Its files, and the state that each owns:
//
//	pipeline.go   the stages on one screen; a run belongs to the goroutine that submitted it (run.go)
//	dispatch.go   what becomes of a task after the decision: one table, event × state → next, and nothing that acts
//	handover.go   acts as the table says: gives tasks to spool and local workers, and takes what they report back to the table
//	overload.go   drops or reduces what both paths cannot take
//	park.go       takes parked tasks out of a run; backlog.go: the spool without them, and the node's state
//	service.go    wires, starts and stops everything; lifecycle.go: the order of the stops; reload of the configuration
//	books.go      account and drops; status.go: how it all is, and what it would decide
//
// Whatever may block runs on a background.Queue, never in a callback. Beside the stages:
//
//	policy     the policies, guards and costs         decision   the record of a decision
//	trial      shadows and a canary                   ledger     the account that proves nothing was lost
//	keys       keys of the secret store               host       watches the node
//	edgex      the only room that knows EdgeX's SDK   mqtt       the one MQTT client
//	models     the store of models                    engine     runs them: TensorFlow Lite and ONNX
//	answer     what the cloud answers                 config     composes the configuration of all rooms
//	status     plain types that the API answers with  health     what is wrong, from a snapshot of facts
//	say        limits of repeated log lines           clock      durations that no step of the wall clock changes
//	kin        which events are results of an app-offload
//	fleet      learns with other nodes                pool       adds up what nodes have learned
//	atomicfile replaces files as a whole              background work for a goroutine that may block
package functions
