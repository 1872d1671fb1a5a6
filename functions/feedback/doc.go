// Package feedback follows each decision to its outcome, and passes that to everything that learns: the policies, the predictions, the trial of a
// canary, the counters of the status and the decision log.
//
//	feedback.go   Feedback: owns the ring of the latest decisions; the pipeline adds to it and reports outcomes, the exporter receipts and results;
//	              the latest outage of the link, the classes that get results, and the latest predicted lateness of local work
//	tally.go      counters of decisions, regret, and the errors of predictions
//	learned.go    learned.json: the learned state, saved at intervals and at the stop
//	log.go        the decision log: its files and the goroutine that writes them
//	status.go     the feedback's part of the API's status
//
// Each file owns its state. Reporting an outcome neither blocks nor does I/O, so that the committer, local workers and the exporter may do it. The
// package calls the rules in force and no stage of the pipeline.
package feedback
