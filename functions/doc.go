// Package functions carries events from the EdgeX MessageBus to the cloud, or processes them locally and publishes the results on the bus.
//
//	receive   receive   a message from any source becomes a task.Event
//	intake              parses and indexes envelope and event; the gate limits what is in flight; quarantine keeps rejected messages
//	task      split     an event becomes tasks, critical ones first; Join restores it byte for byte
//	score     score     predicts the cost of both targets
//	decide    decide    local or cloud, with a reason: guards, policy, trial
//	shed      shed      drops or reduces tasks where both paths are overloaded
//	wait      park      parked tasks, until node or link is free
//	local     process   operators; infer: models; results go back to the MessageBus
//	spool     keep      makes tasks for the cloud durable
//	batch     batch     chooses the next records to send: live first, backlog fairly
//	seal      seal      a batch becomes one message: CloudEvents, compressed, encrypted
//	export    export    MQTT, receipts; link: measures the link to the broker
//	feedback            outcomes of decisions, for every part that learns
//
// This package runs the stages in order. Its files, and the state that each owns:
//
//	pipeline.go   the stages on one screen; a run belongs to the goroutine that submitted it (run.go)
//	dispatch.go   the fate of a task after the decision: one table, event × state → next, without effects
//	handover.go   executes the table: passes tasks to spool and local workers, and feeds their reports back into the table
//	overload.go   drops or reduces tasks that neither path can take
//	park.go       takes parked tasks out of a run; backlog.go: the spool without them, and the node's state
//	service.go    wires, starts and stops everything; lifecycle.go: the order of the stops; reload.go: changed configuration
//	books.go      account and drops; status.go: status, health and advice
//
// Work that may block runs on a background.Queue, never in a callback. Beside the stages:
//
//	policy     policies, guards and costs             decision   the record of a decision
//	trial      shadow policies and a canary           ledger     the conservation account: no task is lost
//	keys       keys of the secret store               host       watches the node
//	edgex      the only room that knows EdgeX's SDK   mqtt       the one MQTT client
//	models     the store of models                    engine     runs them: TensorFlow Lite and ONNX
//	answer     what the cloud answers                 config     composes the configuration of all rooms
//	status     plain types that the API answers with  health     what is wrong, from a snapshot of facts
//	say        limits of repeated log lines           clock      durations that no step of the wall clock changes
//	kin        which events are results of an app-offload
//	halt       the signals that stop a program
//	fleet      learns with other nodes                pool       adds up what nodes have learned
//	atomicfile replaces files as a whole              background queues for work that may block
package functions
