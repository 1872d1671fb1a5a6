// Package functions is the way of the data, from the EdgeX MessageBus to the cloud or to a result here.
//
//	intake    receive   envelope and event become an indexed task.Event; the gate bounds what is in flight
//	task      split     an event becomes tasks, critical ones first; Join undoes it byte for byte
//	score     score     what each way would cost now
//	policy    decide    local or cloud, with a reason
//	local     process   the cheap work, here; results go back to the MessageBus
//	spool     keep      what is to leave is durable first
//	batch     batch     what leaves next: live first, backlog fairly
//	seal      seal      a batch becomes one message: CloudEvents, compressed, encrypted
//	export    export    MQTT, receipts
//
// What becomes of a task after the decision is one table, event × state → next (dispatch.go); handover.go gives tasks to spool and local
// workers, and brings what they report to the table. What may block runs on the goroutine of later.go, never in a callback.
//
// Where a policy binds late (late.go), a task whose way is busy is kept undecided, and comes the second half of this way when node or
// link is free.
//
// What then came of a decision goes back the other way (settle.go): to the policies that learn, to the predictions, to the
// trial of a canary, to the counts of the status, to the decision log; learned.go keeps what was learned over a restart.
//
// The host package watches the node and config composes the configuration of them all. Pipeline puts the stages in
// order; Ledger keeps the account that proves nothing was lost; Service wires, starts and stops them.
//
// Beside the way of the data:
//
//	edgex     the only room that knows EdgeX's SDK: trigger, bus client, effective configuration
//	mqtt      the one MQTT client, of bus, link and consumer: sessions, acknowledgements, addresses, secrets
//	engine    models in pure Go: TensorFlow Lite and ONNX
//	models    the store of models: manifests, signatures, hot swap, delivery, and which examples are hard
//	status    the plain types that the API answers with
//	say       limits of repeated log lines
//	clock     durations that no step of the wall clock changes
//
// No stage uses engine and models yet; `offload-lab model` runs them.
package functions
