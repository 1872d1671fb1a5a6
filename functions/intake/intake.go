// Package intake is where events enter: it reads them off the bus, checks them and hands them on.
//
//	Subscriber ─► parse.ParseEnvelope ─► parse ─► Sink     the acknowledging MQTT trigger of our own
//	SDK trigger ─► Gate ─► parse ─► Orderer ─► Sink        the SDK's default trigger, Redis or MQTT
//
// What does not parse goes to the quarantine with its reason and harms nothing else. Gate, Orderer and Subscriber are each
// bounded, and count what they turn away.
//
// Which file holds which state, and who owns it:
//
//	subscriber.go     the Subscriber; its reader (run) owns the slices that go to the sink, its mutex all that is under way;
//	                  the connection, held by an mqtt.Keeper
//	delivery.go       the way of one message: ticket, event, sink, acknowledgement; refused events, and identities handed on lately
//	subscriptions.go  the topics of the session, and the file that remembers them        topics.go    filters; no state
//	gate.go           what may be under way at once; a lock of its own
//	orderer.go        events held to restore their order, for the SDK's default trigger
//	parse/            bytes to events; no state but caches
//
// Subscriber calls all others; Gate and Orderer call none of them.
package intake
