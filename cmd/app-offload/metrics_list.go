package main

import (
	"maps"
	"slices"

	"app-offload/functions/health"
	"app-offload/functions/infer"
	"app-offload/functions/status"
)

// metrics returns the whole telemetry: one list for Prometheus and EdgeX. A new metric is one entry here and one line in the configuration's head
// (functions/config/testdata/head.yaml); a test demands both.
func metrics() []metric {
	return slices.Concat(accountMetrics(), decisionMetrics(), memoryMetrics(), comparisonMetrics(), spoolMetrics(), exportMetrics(), localMetrics(), modelMetrics(), nodeMetrics())
}

// accountMetrics prove that no task is lost: accepted = local + receipted + spooled + dropped.
func accountMetrics() []metric {
	return []metric{
		{"events_received_total", counter, "Events received, without rejected messages.", nil, plain(func(s *status.Status) uint64 { return s.Events.Received })},
		{"events_unsafe_total", counter, "Messages received at QoS 0, which no acknowledgement protects.", nil, plain(func(s *status.Status) uint64 { return s.Events.Unsafe })},
		{"events_refused_total", counter, "Events refused by the gate, by reason.", []string{"reason"}, byLabel(func(s *status.Status) map[string]uint64 { return s.Events.Refused })},
		{"events_quarantined_total", counter, "Messages quarantined because they were rejected as events, by reason.", []string{"reason"}, byLabel(func(s *status.Status) map[string]uint64 { return s.Events.Quarantined })},
		{"events_unheard_total", counter, "Messages lost at a stop for lack of time, on a bus that does not redeliver them.", nil, plain(func(s *status.Status) int64 { return s.Events.Unheard })},
		{"tasks_returned_total", counter, "Tasks refused and returned to the bus, because neither the spool nor local work could take them.", nil, plain(func(s *status.Status) int64 { return s.Events.Returned })},
		{"tasks_accepted_total", counter, "Tasks accepted: done locally, receipted, spooled or dropped.", nil, plain(func(s *status.Status) int64 { return s.Counts.Accepted })},
		{"tasks_local_total", counter, "Tasks done locally.", nil, plain(func(s *status.Status) int64 { return s.Counts.Local })},
		{"tasks_receipted_total", counter, "Tasks confirmed by a receipt of the consumer.", nil, plain(func(s *status.Status) int64 { return s.Counts.Receipted })},
		{"unacknowledged_drops", gauge, "Dropped tasks that are not acknowledged yet, by class and reason.", []string{"class", "reason"}, func(s *status.Status, e emit) {
			for _, d := range s.Drops.List {
				e(float64(d.Unacknowledged), d.Class, d.Reason)
			}
		}},
		{"tasks_dropped_total", counter, "Tasks dropped, by reason.", []string{"reason"}, byLabel(func(s *status.Status) map[string]int64 { return s.Counts.Dropped })},
		{"tasks_spooled", gauge, "Tasks durable in the spool and not receipted yet.", nil, plain(func(s *status.Status) int64 { return s.Counts.Spooled })},
		{"tasks_undecided", gauge, "Parked tasks; they are included in those spooled.", nil, plain(func(s *status.Status) int64 { return s.Undecided.Tasks })},
		{"undecided_bytes", gauge, "Size of the parked tasks' data, which is in memory as well.", nil, plain(func(s *status.Status) int64 { return s.Undecided.Bytes })},
		{"overload_tasks_total", counter, "Tasks dropped, expired, reduced or rerouted because both paths were overloaded, by class and reason.", []string{"class", "reason"}, func(s *status.Status, e emit) {
			for _, f := range s.Overload.Flows {
				e(float64(f.Dropped), f.Class, "overload")
				e(float64(f.TooLate), f.Class, "tooLate")
				e(float64(f.Reduced), f.Class, "reduced")
				e(float64(f.Rerouted), f.Class, "rerouted")
			}
		}},
		{"overload_pressure_ratio", gauge, "Predicted age of a class's results by the faster path, divided by the age it allows; above 1 is overload.", []string{"class"}, func(s *status.Status, e emit) {
			for _, f := range s.Overload.Flows {
				e(f.Pressure, f.Class)
			}
		}},
		{"tasks_in_flight", gauge, "Tasks in memory that are not accepted yet.", nil, plain(func(s *status.Status) int64 { return s.Counts.InFlight })},
		{"tasks_balance", gauge, "Tasks that the account does not explain; any value but 0 is a defect.", nil, plain(func(s *status.Status) int64 { return s.Counts.Balance })},
	}
}

// plain reads a metric without labels.
func plain[N int | int64 | uint64 | float64](read func(*status.Status) N) func(*status.Status, emit) {
	return func(st *status.Status, e emit) { e(float64(read(st))) }
}

// byLabel reads a map from the values of the only label, in sorted order.
func byLabel[N int64 | uint64](read func(*status.Status) map[string]N) func(*status.Status, emit) {
	return func(st *status.Status, e emit) {
		values := read(st)
		for _, label := range slices.Sorted(maps.Keys(values)) {
			e(float64(values[label]), label)
		}
	}
}

// decisionMetrics count the decisions and the errors of their predictions.
func decisionMetrics() []metric {
	way := []string{"class", "target"}
	return []metric{
		{"decisions_total", counter, "Decisions, by policy, target and class.", []string{"policy", "target", "class"}, func(s *status.Status, e emit) {
			for _, d := range s.Policies.Decided {
				e(float64(d.Count), d.Policy, d.Target, d.Class)
			}
		}},
		{"outcomes_total", counter, "Decisions whose outcome is known, by class and target.", way, predictions(func(p *status.PredictionStatus) float64 { return float64(p.Count) })},
		{"completion_predicted_seconds", gauge, "Mean predicted completion time, by class and target.", way, predictions(func(p *status.PredictionStatus) float64 { return p.Predicted })},
		{"completion_actual_seconds", gauge, "Mean actual completion time, by class and target.", way, predictions(func(p *status.PredictionStatus) float64 { return p.Actual })},
		{"completion_error_ratio", gauge, "Mean absolute error of the prediction, as a share of the actual time, by class and target.", way, predictions(func(p *status.PredictionStatus) float64 { return p.Error })},
		{"regret_estimate", gauge, "Mean predicted cost of a decision above that of the better target, in the unit of the costs.", nil, plain(func(s *status.Status) float64 { return s.Policies.Regret })},
		{"task_energy_joules_total", sum, "Estimated energy spent on local work and on the radio; no meter measures single tasks.", nil, plain(func(s *status.Status) float64 { return s.Policies.Joules })},
		{"configuration_refused", gauge, "1 while the last change of the configuration was rejected and the previous one is in force.", nil, flag(func(s *status.Status) bool { return s.Configuration.Problem != "" })},
	}
}

// flag reads a condition as 1 or 0.
func flag(read func(*status.Status) bool) func(*status.Status, emit) {
	return func(st *status.Status, e emit) {
		if read(st) {
			e(1)
			return
		}
		e(0)
	}
}

func predictions(read func(*status.PredictionStatus) float64) func(*status.Status, emit) {
	return func(s *status.Status, e emit) {
		for i := range s.Policies.Prediction {
			p := &s.Policies.Prediction[i]
			e(read(p), p.Class, p.Target)
		}
	}
}

// memoryMetrics report how many decisions are kept and lost: in memory, as learned state, and in the decision log.
func memoryMetrics() []metric {
	return []metric{
		{"forgotten_outcomes_total", counter, "Outcomes whose decision was no longer kept.", nil, plain(func(s *status.Status) uint64 { return s.Policies.Forgotten })},
		{"unsettled_decisions_total", counter, "Decisions discarded before their outcome arrived.", nil, plain(func(s *status.Status) uint64 { return s.Policies.Unsettled })},
		{"unlisted_decisions_total", counter, "Decisions and outcomes counted without policy, target and class, because there are too many combinations.", nil, plain(func(s *status.Status) uint64 { return s.Policies.Unlisted })},
		{"learned_age_seconds", gauge, "Time since the learned state was last saved, 0 before the first time.", nil, plain(func(s *status.Status) float64 { return s.Policies.Learned.Age })},
		{"learned_outcomes_total", counter, "Outcomes that a policy has learned from, by target.", []string{"policy", "target"}, func(s *status.Status, e emit) {
			for _, name := range slices.Sorted(maps.Keys(s.Policies.Learned.Outcomes)) {
				e(float64(s.Policies.Learned.Outcomes[name].Local), name, "local")
				e(float64(s.Policies.Learned.Outcomes[name].Cloud), name, "cloud")
			}
		}},
		{"learned_failing", gauge, "1 while the learned state cannot be saved.", nil, flag(func(s *status.Status) bool { return s.Policies.Learned.Problem != "" })},
		{"log_written_decisions_total", counter, "Decisions written to the decision log.", nil, logged(func(l *status.DecisionLogStatus) uint64 { return l.Written })},
		{"log_dropped_decisions_total", counter, "Decisions that the decision log omitted.", nil, logged(func(l *status.DecisionLogStatus) uint64 { return l.Dropped })},
	}
}

func logged(read func(*status.DecisionLogStatus) uint64) func(*status.Status, emit) {
	return func(s *status.Status, e emit) {
		if l := s.Policies.DecisionLog; l != nil {
			e(float64(read(l)))
		}
	}
}

// comparisonMetrics compare the acting policy with the others.
func comparisonMetrics() []metric {
	one := []string{"policy"}
	return []metric{
		{"shadow_decisions_total", counter, "Decisions of a shadow policy, which does not act.", one, shadows(func(h *status.ShadowStatus) float64 { return float64(h.Decisions) })},
		{"shadow_agreement_ratio", gauge, "Share of a shadow's decisions that agree with the acting policy's.", one, shadows(func(h *status.ShadowStatus) float64 { return h.Agreement })},
		{"shadow_cost", gauge, "Mean predicted cost of a shadow's decisions.", one, shadows(func(h *status.ShadowStatus) float64 { return h.Cost })},
		{"shadow_acting_cost", gauge, "Mean predicted cost of the acting policy's decisions on the same tasks.", one, shadows(func(h *status.ShadowStatus) float64 { return h.ActingCost })},
		{"canary_share_ratio", gauge, "Share of the devices for which the canary acts.", one, canary(func(c *status.CanaryStatus) float64 { return c.Share })},
		{"canary_rolled_back", gauge, "1 after the canary was rolled back.", one, canary(func(c *status.CanaryStatus) float64 { return oneIf(c.State == "rolledBack") })},
		{"canary_outcomes_total", counter, "Outcomes in the comparison, by side.", []string{"arm"}, arms(func(a *status.ArmStatus) float64 { return float64(a.Outcomes) })},
		{"canary_miss_ratio", gauge, "Share of missed deadlines, by side.", []string{"arm"}, arms(func(a *status.ArmStatus) float64 { return a.MissShare })},
		{"canary_cost", gauge, "Mean cost of actual outcomes, by side.", []string{"arm"}, arms(func(a *status.ArmStatus) float64 { return a.Cost })},
	}
}

func shadows(read func(*status.ShadowStatus) float64) func(*status.Status, emit) {
	return func(s *status.Status, e emit) {
		for i := range s.Policies.Shadows {
			e(read(&s.Policies.Shadows[i]), s.Policies.Shadows[i].Policy)
		}
	}
}

func canary(read func(*status.CanaryStatus) float64) func(*status.Status, emit) {
	return func(s *status.Status, e emit) {
		if c := s.Policies.Canary; c != nil {
			e(read(c), c.Policy)
		}
	}
}

func arms(read func(*status.ArmStatus) float64) func(*status.Status, emit) {
	return func(s *status.Status, e emit) {
		if c := s.Policies.Canary; c != nil {
			e(read(&c.Canary), "canary")
			e(read(&c.Incumbent), "incumbent")
		}
	}
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

func spoolMetrics() []metric {
	return []metric{
		{"spool_tasks", gauge, "Tasks in the spool.", nil, plain(func(s *status.Status) int64 { return s.Spool.Tasks })},
		{"spool_bytes", gauge, "Bytes in the spool.", nil, plain(func(s *status.Status) int64 { return s.Spool.Bytes })},
		{"spool_limit_bytes", gauge, "Bytes that tasks in the spool may take.", nil, plain(func(s *status.Status) int64 { return s.Spool.Limit })},
		{"spool_fill", gauge, "Share of the limit in use, 1 while tasks are refused or dropped for lack of space.", nil, plain(func(s *status.Status) float64 { return s.Spool.Fill })},
		{"spool_quota_bytes", gauge, "Bytes that all files of the spool may take.", nil, plain(func(s *status.Status) int64 { return s.Spool.Quota })},
		{"spool_oldest_age_seconds", gauge, "Age of the oldest task in the spool.", nil, plain(func(s *status.Status) float64 { return s.Spool.OldestAge })},
		{"spool_damaged_records_total", counter, "Damaged records that were quarantined.", nil, plain(func(s *status.Status) int64 { return s.Spool.Damaged })},
		{"spool_failing", gauge, "1 while the spool cannot store.", nil, flag(func(s *status.Status) bool { return s.Spool.Problem != "" })},
	}
}

func exportMetrics() []metric {
	return []metric{
		{"link_up", gauge, "1 while the broker can be reached.", nil, flag(func(s *status.Status) bool { return s.Link.Up })},
		{"link_goodput_bytes_per_second", gauge, "Acknowledged bytes a second while batches were in flight, smoothed.", nil, plain(func(s *status.Status) float64 { return s.Link.Goodput })},
		{"link_slow_goodput_bytes_per_second", gauge, "Goodput, 10th percentile of the latest busy minute.", nil, plain(func(s *status.Status) float64 { return s.Link.Goodput10 })},
		{"link_median_goodput_bytes_per_second", gauge, "Goodput, median of the latest busy minute.", nil, plain(func(s *status.Status) float64 { return s.Link.Goodput50 })},
		{"link_rtt_seconds", gauge, "Round trip of a small message, smoothed.", nil, plain(func(s *status.Status) float64 { return s.Link.RTT })},
		{"link_slow_rtt_seconds", gauge, "Round trip of a small message, 95th percentile.", nil, plain(func(s *status.Status) float64 { return s.Link.RTT95 })},
		{"export_published_batches_total", counter, "Batches published to the broker, including repetitions.", nil, plain(func(s *status.Status) uint64 { return s.Export.Published })},
		{"export_acknowledged_batches_total", counter, "Batches the broker acknowledged.", nil, plain(func(s *status.Status) uint64 { return s.Export.Acked })},
		{"export_resent_batches_total", counter, "Batches published again because of a missing receipt or a gap.", nil, plain(func(s *status.Status) uint64 { return s.Export.Resent })},
		{"export_connections_total", counter, "Connections made; all after the first are reconnections.", nil, plain(func(s *status.Status) uint64 { return s.Export.Connections })},
		{"export_set_aside_records_total", counter, "Records dropped by the exporter.", nil, plain(func(s *status.Status) uint64 { return s.Export.SetAside })},
		{"export_gone_records_total", counter, "Records reported to the consumer as gone.", nil, plain(func(s *status.Status) uint64 { return s.Export.Gone })},
		{"cloud_answers_total", counter, "Results of the cloud, by outcome.", []string{"outcome"}, byLabel(cloudAnswers)},
		{"sent_results_total", counter, "Results of local work sent to the cloud as tasks, as their class demands.", nil, plain(func(s *status.Status) int64 { return s.Results.Sent })},
		{"unsent_results_total", counter, "Results not sent to the cloud although their class sends them, by reason. They were published on the MessageBus, but for lost ones.", []string{"reason"}, byLabel(func(s *status.Status) map[string]int64 { return s.Results.Unsent })},
		{"export_confirmed_results_total", counter, "Results confirmed to the cloud.", nil, plain(func(s *status.Status) uint64 { return s.Export.Confirmed })},
		{"export_results_total", counter, "Results received from the cloud.", nil, plain(func(s *status.Status) uint64 { return s.Export.Results })},
		{"export_sent_bytes_total", counter, "Message bytes the broker acknowledged.", nil, plain(func(s *status.Status) uint64 { return s.Export.Bytes })},
		{"export_errors_total", counter, "Errors of the export, by kind.", []string{"kind"}, byLabel(func(s *status.Status) map[string]uint64 { return s.Export.Errors })},
		{"export_in_flight_batches", gauge, "Batches in flight.", nil, plain(func(s *status.Status) int { return s.Export.Inflight })},
		{"export_in_flight_bytes", gauge, "Record bytes of the batches in flight.", nil, plain(func(s *status.Status) int { return s.Export.InflightBytes })},
		{"export_receipts_silent", gauge, "1 while the broker acknowledges but no receipts arrive.", nil, flag(func(s *status.Status) bool { return s.Export.ReceiptsSilent })},
	}
}

func localMetrics() []metric {
	return []metric{
		{"local_queue_tasks", gauge, "Tasks waiting for a local worker.", nil, plain(func(s *status.Status) int { return s.Node.QueueTasks })},
		{"local_failed_tasks_total", counter, "Tasks whose local work failed.", nil, plain(func(s *status.Status) int64 { return s.Local.Failed })},
		{"local_readings_total", counter, "Readings read by at least one operator.", nil, plain(func(s *status.Status) int64 { return s.Local.Readings })},
		{"local_results_total", counter, "Results published on the MessageBus, by operator.", []string{"operator"}, byLabel(func(s *status.Status) map[string]int64 { return s.Local.Results })},
		{"local_lost_results_total", counter, "Results lost, by reason.", []string{"reason"}, byLabel(func(s *status.Status) map[string]int64 { return s.Local.Dropped })},
		{"local_skipped_readings_total", counter, "Readings that no operator read, by reason.", []string{"reason"}, byLabel(func(s *status.Status) map[string]int64 { return s.Local.Skipped })},
		{"local_odd_readings_total", counter, "Readings that operators could not use unchanged, by kind.", []string{"kind"}, byLabel(oddReadings)},
		{"local_panics_total", counter, "Panics caught in operators, by operator.", []string{"operator"}, byLabel(func(s *status.Status) map[string]int64 { return s.Local.Panics })},
		{"local_resources", gauge, "Resources whose state the operators remember.", nil, plain(func(s *status.Status) int64 { return s.Local.Keys })},
		{"local_pending_results", gauge, "Results of windows that wait for the bus.", nil, plain(func(s *status.Status) int64 { return s.Local.Pending })},
	}
}

// modelMetrics describe the models of the classes. A node without models has no such series.
func modelMetrics() []metric {
	class := []string{"class", "model"}
	each := func(value func(c *infer.ClassStats) float64) func(*status.Status, emit) {
		return func(s *status.Status, e emit) {
			if s.Models != nil {
				for i := range s.Models.Classes {
					c := &s.Models.Classes[i]
					e(value(c), c.Class, c.Model)
				}
			}
		}
	}
	return []metric{
		{"model_answers_total", counter, "Answers of local models, by class, model and kind: final or provisional.", []string{"class", "model", "kind"}, func(s *status.Status, e emit) {
			if s.Models != nil {
				for _, c := range s.Models.Classes {
					e(float64(c.Final), c.Class, c.Model, "final")
					e(float64(c.Provisional), c.Class, c.Model, "provisional")
				}
			}
		}},
		{"model_late_answers_total", counter, "Answers of local models after the deadline of their task.", class, each(func(c *infer.ClassStats) float64 { return float64(c.Late) })},
		{"model_failed_tasks_total", counter, "Tasks on which a model, or publishing its answer, failed.", class, each(func(c *infer.ClassStats) float64 { return float64(c.Failed) })},
		{"model_busy_tasks_total", counter, "Tasks rejected by the pool of models.", class, each(func(c *infer.ClassStats) float64 { return float64(c.Busy) })},
		{"model_run_seconds", gauge, "Mean time of recent runs of the model.", class, each(func(c *infer.ClassStats) float64 { return c.Run })},
		{"model_answer_seconds", gauge, "Mean time from an event to its answer, recently.", class, each(func(c *infer.ClassStats) float64 { return c.Latency })},
		{"model_drift_deviations", gauge, "Drift of a model's inputs from the first ones, in deviations.", class, each(func(c *infer.ClassStats) float64 { return c.Drift })},
	}
}

func cloudAnswers(s *status.Status) map[string]int64 {
	a := &s.Answers
	return map[string]int64{
		"published": a.Published, "repeated": a.Repeated, "refused": a.Refused, "failed": a.Failed, "outcome": a.Outcomes, "full": a.Full, "bus": a.Bus, "noBus": a.NoBus,
	}
}

// oddReadings returns the counts of local work that a user should investigate.
func oddReadings(s *status.Status) map[string]int64 {
	l := &s.Local
	return map[string]int64{
		"late": l.Late, "stale": l.Stale, "ahead": l.Ahead, "converted": l.Converted, "replaced": l.Replaced, "resets": l.Resets, "falls": l.Falls, "full": l.Full,
	}
}

// nodeMetrics describe the machine and the process. A machine without a sensor has no series for it.
func nodeMetrics() []metric {
	return []metric{
		{"healthy", gauge, "1 while nothing is wrong: the health has notes at most.", nil, flag(func(s *status.Status) bool { return s.Health.State == status.Well })},
		{"health_severity", gauge, "Severity of a reason of the health, by its code: 0 absent, 1 a note, 2 a warning, 3 critical, which means not ready.", []string{"code"}, func(s *status.Status, e emit) {
			for _, code := range health.Codes() {
				e(float64(s.Health.Severity(code)), code)
			}
		}},
		{"build_info", gauge, "Always 1; its labels are version and commit of the program.", []string{"version", "commit"}, func(s *status.Status, e emit) { e(1, s.Version, s.Commit) }},
		{"ready", gauge, "1 while events are accepted and handled.", nil, flag(func(s *status.Status) bool { return s.Ready })},
		{"node_cpu_ratio", gauge, "Busy share of all cores.", nil, plain(func(s *status.Status) float64 { return s.Node.CPU / 100 })},
		{"node_memory_ratio", gauge, "Used share of the memory.", nil, plain(func(s *status.Status) float64 { return s.Node.Memory / 100 })},
		{"node_temperature_celsius", gauge, "Temperature of the hottest sensor.", nil, plain(func(s *status.Status) float64 { return s.Node.Temperature })},
		{"node_power_watts", gauge, "Mean power of the package since the last sample, measured.", nil, plain(func(s *status.Status) float64 { return s.Node.Watts })},
		{"node_battery_ratio", gauge, "Charge of the battery.", nil, plain(func(s *status.Status) float64 { return s.Node.Battery / 100 })},
		{"node_frequency_ratio", gauge, "Upper bound of the frequency that the governor set or advises, as a share of the highest.", nil, func(s *status.Status, e emit) {
			if g := s.Policies.Governor; g != nil {
				e(g.Share)
			}
		}},
		{"process_cpu_ratio", gauge, "Share of all cores that this process takes.", nil, plain(func(s *status.Status) float64 { return s.Node.OwnCPU / 100 })},
		{"process_resident_bytes", gauge, "Resident memory of this process.", nil, plain(func(s *status.Status) int64 { return s.Process.RSS })},
		{"process_goroutines", gauge, "Goroutines of this process.", nil, plain(func(s *status.Status) int { return s.Process.Goroutines })},
		{"process_uptime_seconds", gauge, "Time since the start of this process.", nil, plain(func(s *status.Status) float64 { return s.Process.Uptime })},
	}
}
