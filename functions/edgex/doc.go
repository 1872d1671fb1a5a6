// Package edgex is the only package that uses EdgeX's SDK. It connects a functions.Service with the SDK: the bus of the configuration, the SDK's own
// triggers, and the end of the process.
//
//	config.go   EffectiveBus: the MessageBus and Trigger sections as the SDK has put them together
//	bus.go      Bus: a MessageBus client of the service's own, which outlives the SDK's
//	results.go  NewResults: publishes the results of local work on a Bus
//	trigger.go  Trigger: the service's own intake, of type "offload", on the bus's Source
//	reader.go   the Source for a bus without acknowledgements, such as Redis; on MQTT it is the service's own
//	adapter.go  Adapter: the one function of the SDK's pipeline, for the SDK's own triggers
//
// The package decides, stores and counts nothing. The service calls none of it, so it also runs without EdgeX.
package edgex
