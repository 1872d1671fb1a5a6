// Package edgex is the only room that knows EdgeX's SDK. It joins a functions.Service with what the SDK has: the bus that the
// configuration names, the SDK's own triggers, and the end of the process.
//
//	config.go   EffectiveBus: the MessageBus and Trigger sections as the SDK has put them together
//	bus.go      Bus: a MessageBus client of the service's own, which outlives the SDK's
//	results.go  NewResults: publishes the results of local work on a Bus
//	trigger.go  Trigger: the service's own intake, of type "offload", on the bus's Source
//	reader.go   the Source for a bus without acknowledgements, such as Redis; on MQTT it is the service's own
//	adapter.go  Adapter: the one function of the SDK's pipeline, for the SDK's own triggers
//
// Nothing here decides, stores or counts. The service calls none of it, so it runs as well without EdgeX.
package edgex
