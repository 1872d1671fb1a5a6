// Package mqtt is the MQTT client of the bus (intake), the link (export) and the consumer (offload-cloud). github.com/eclipse/paho.mqtt.golang writes
// the packets and reads all but PUBLISH; this package manages the connections.
//
//	address.go   the schemes of broker addresses             auth.go     authentication modes, secrets, TLS
//	session.go   one connection: Dial, Publish, Ack, End, its reads and writes, and the write lock
//	keeper.go    redials, for the bus and the consumer, and the wait between two attempts
//	acks.go      acknowledgements in the order of arrival    rival.go    recognises two clients with one id
//	inbound.go   reads PUBLISH packets within limits and passes them on in batches; memory of payloads
//
// A Session is one connection and never reconnects: a client that resumes publishes its pending messages in its own order. The exporter dials
// sessions itself, because a successor may start before its predecessor ends; all others use a Keeper. Acks uses sessions and belongs to its user.
// Calls go downwards: Keeper → Dial → inbound.
package mqtt
