// Package feedback follows each decision to what came of it, and shows that to everything that learns: the policies, the predictions, the
// trial of a canary, the counts of the status and the decision log.
//
//	feedback.go   Feedback: owns the ring of the latest decisions; the pipeline adds to it and reports outcomes, the exporter receipts and results;
//	              when the link was last gone, which classes get results, and by how much local work was last predicted to be late
//	tally.go      counts of decisions, regret, and predictions held against what came
//	learned.go    learned.json: what was learned, saved now and then and at the stop
//	log.go        the decision log: its files and the goroutine that writes them
//	status.go     all of it as the API shows it
//
// Each file owns its state. Reporting an outcome neither blocks nor does any I/O, so the committer, local workers and the exporter may do it.
// The room calls the rules in force and no stage of the pipeline.
package feedback
