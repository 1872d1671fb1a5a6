// Package intake receives events: it reads them from the bus, validates them and passes them on.
//
//	Subscriber ─► parse.ParseEnvelope ─► parse ─► Sink     our own acknowledging MQTT trigger
//	SDK trigger ─► Gate ─► parse ─► Orderer ─► Sink        the SDK's default trigger, Redis or MQTT
//
// A message that does not parse is quarantined with its reason and affects no other message. Gate, Orderer and Subscriber are each bounded, and count
// refusals.
//
// The state by file, and its owner:
//
//	subscriber.go     the Subscriber; its reader (run) owns the slices for the sink, its mutex guards all events in progress;
//	                  an mqtt.Keeper holds the connection
//	delivery.go       the path of one message: ticket, event, sink, acknowledgement; refused events, and recent identities
//	subscriptions.go  the topics of the session, and the file that remembers them        topics.go    filters; no state
//	gate.go           the limit on events in progress; a lock of its own
//	orderer.go        events held to restore their order, for the SDK's default trigger
//	parse/            bytes to events; no state but caches
//
// Subscriber calls all others; Gate and Orderer call none of them.
package intake
