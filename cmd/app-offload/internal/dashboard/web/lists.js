// The lists below the charts, and the explanation of one decision.

const pill = target => make("span", { class: `pill ${target === "cloud" ? "cloud" : "local"}` }, place(target));

// table builds a table; a cell [value] is right-aligned like a number. On a narrow screen it scrolls, also by keyboard.
function table(name, head, rows) {
  const cell = (tag, v, extra = {}) => Array.isArray(v) ? make(tag, { class: "num", ...extra }, v[0]) : make(tag, extra, v);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map(h => cell("th", h, { scope: "col" })))),
    make("tbody", {}, ...rows.map(r => make("tr", {}, ...r.map(v => cell("td", v)))))));
}

const empty = text => make("p", { class: "empty" }, text);
const facts = pairs => make("dl", {}, ...pairs.filter(p => p).flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));

// fill replaces the content only if it differs, so that a selection or the focus in it is kept.
function fill(id, ...content) {
  const next = make("div", {}, ...content);
  if ($(id).innerHTML !== next.innerHTML) $(id).replaceChildren(...next.childNodes);
}

// took returns the outcome of a decision, for the last column.
function took(outcome) {
  if (!outcome) return make("span", { class: "hint" }, "…");
  if (outcome.failed) return make("span", { class: "late" }, "no result");
  return outcome.met ? seconds(outcome.time) : make("span", { class: "late", title: "deadline missed" }, `${seconds(outcome.time)} late`);
}

const outcomeOf = d => d.outcome ? "1" : "";

function row(d) {
  const open = make("button", { class: "open", type: "button", "aria-label": `Explain decision of ${clock(d.time)} for ${d.device || "a task"}: ${place(d.target)}` }, clock(d.time));
  const wide = (v, more = "") => make("td", { class: `wide ${more}` }, v);
  const num = v => make("td", { class: "num" }, v);
  const r = make("tr", { "data-id": d.id, "data-outcome": outcomeOf(d) }, make("td", {}, open), make("td", {}, pill(d.target)),
    make("td", { title: d.device }, d.device || "advice"), wide(d.class || "–"), wide(bytes(d.size), "num"), wide(d.policy),
    wide(d.score.toFixed(2), "num"), wide(spell(d.reason)), num(seconds(d.expected)), num(took(d.outcome)));
  r.addEventListener("click", () => { location.hash = `decision-${d.id}`; });
  return r;
}

// showDecisions does not move rows that stay. The row with the focus keeps it, and stays even after its decision has left the list.
function showDecisions(list) {
  const why = held();
  put($("held"), why);
  if (why) return;
  const body = $("list"), there = new Map([...body.children].map(r => [r.dataset.id, r]));
  let at = body.firstElementChild;
  for (const d of list) {
    const old = there.get(String(d.id)), r = old || row(d);
    there.delete(String(d.id));
    if (old && old.dataset.outcome !== outcomeOf(d)) {
      old.lastElementChild.replaceChildren(took(d.outcome));
      old.dataset.outcome = outcomeOf(d);
    }
    if (r === at) at = at.nextElementSibling;
    else body.insertBefore(r, at);
  }
  for (const r of there.values()) if (!r.contains(document.activeElement)) r.remove();
  $("list-empty").hidden = list.length > 0;
}

// held returns why the list is paused, or "": by the button, because a decision is open, or because the pointer is over the list and the user
// may be about to open one.
function held() {
  if ($("hold").getAttribute("aria-pressed") === "true") return "Held";
  if ($("detail").open) return "Held while a decision is open";
  return $("list").matches(":hover") ? "Held under the pointer" : "";
}

function showPolicies(st) {
  const p = st.policies, parts = [make("h3", {}, "Acting"), make("code", { class: "formula", id: "acting" }, st.policy)];
  const own = Object.entries(p.acting || {}).filter(([name, acting]) => name && !st.policy.startsWith(acting));
  if (own.length) parts.push(make("div", { class: "chips" }, ...own.map(([name, acting]) => make("span", {}, `${name}: `, make("b", {}, acting)))));
  parts.push(...decided(p.decided || []), ...foreseen(p), ...shadows(p.shadows || []), ...canary(p.canary));
  fill("policies", ...parts);
}

function decided(counts) {
  const rows = new Map();
  for (const d of counts) {
    const key = `${d.policy} ${d.class}`;
    if (!rows.has(key)) rows.set(key, { policy: d.policy, class: d.class, local: 0, cloud: 0 });
    rows.get(key)[d.target] += d.count;
  }
  if (!rows.size) return [];
  return [make("h3", {}, "Decisions since the start"), table("Decisions since the start", ["Policy", "Class", ["Local"], ["Cloud"], ["Share"]], [...rows.values()].map(r => {
    const share = r.local / Math.max(r.local + r.cloud, 1);
    const bar = make("div", { class: "bar", role: "img", "aria-label": `${percent(share)} local` }, make("i", { class: "local", width: `${share * 100}%` }), make("i", { class: "cloud", width: `${100 - share * 100}%` }));
    return [r.policy, r.class || "–", [whole(r.local)], [whole(r.cloud)], [bar]];
  }))];
}

function foreseen(p) {
  if (!(p.prediction || []).length) return [];
  const rows = p.prediction.map(r => [r.class || "–", pill(r.target), [whole(r.count)], [seconds(r.predicted)], [seconds(r.actual)], [percent(r.error)]]);
  return [make("h3", {}, "Completion time, predicted and actual"), table("Completion times", ["Class", "Target", ["Outcomes"], ["Predicted"], ["Actual"], ["Error"]], rows),
    make("p", { class: "hint" }, `Regret estimate: on average, a decision costs ${number(p.regret)} more than the better target.`)];
}

function shadows(list) {
  const parts = [make("h3", {}, "Shadow policies")];
  if (!list.length) return [...parts, empty("No shadow policy runs.")];
  return [...parts, table("Shadows", ["Policy", ["Decisions"], ["Agrees"], ["Its cost"], ["Acting cost"], ["Difference"]], list.map(s => {
    const d = s.actingCost ? (s.cost - s.actingCost) / s.actingCost : 0;
    const text = d > 2 ? `× ${number(d + 1)}` : Math.abs(d) < 0.0005 ? "none" : `${d > 0 ? "+" : "−"}${percent(Math.abs(d))}`;
    return [s.policy, [whole(s.decisions)], [percent(s.agreement)], [number(s.cost)], [number(s.actingCost)],
      [make("span", { class: `pill ${d < -0.01 ? "good" : d > 0.01 ? "bad" : "plain"}` }, text)]];
  }))];
}

function canary(c) {
  const title = make("h3", {}, "Canary");
  if (!c) return [title, empty("No canary runs.")];
  const gone = c.state === "rolledBack";
  const arm = (name, a) => make("div", {}, make("b", {}, name), facts([["Outcomes", whole(a.outcomes)], ["Missed deadlines", a.outcomes ? percent(a.missShare) : "–"], ["Mean cost", a.outcomes ? number(a.cost) : "–"]]));
  return [title, make("p", {}, make("b", {}, c.policy), ` for ${percent(c.share)} of the devices `, make("span", { class: `pill ${gone ? "bad" : "good"}` }, gone ? "rolled back" : spell(c.state))),
    c.reason ? make("p", { class: "sub" }, c.reason) : null, make("div", { class: "arms" }, arm("Canary", c.canary), arm("Incumbent", c.incumbent))];
}

// showModels shows the work of models by class, and the answers of the cloud. Without models the section is hidden.
function showModels(st) {
  const m = st.models;
  $("models-section").hidden = !m || !m.classes.length;
  if (!m) return;
  const share = c => c.hard ? `${whole(c.hardHour)} in an hour, ${whole(c.hardDay)} in a day: ${c.hard}` : "none";
  const trouble = m.classes.filter(c => c.problem || c.drifted).map(c => make("p", { class: "bad" }, make("b", {}, `${c.class}: `), c.problem || `the data drifted by ${number(c.drift)} deviations`));
  const trials = (m.canaries || []).map(c => make("p", {}, make("b", {}, `${c.model} ${c.version}`), " ",
    make("span", { class: `pill ${c.state === "rolledBack" ? "bad" : c.state === "promoted" ? "good" : "plain"}` }, c.state === "running" ? `canary, ${whole(c.tasks)} of ${several(c.of, "task")}` : spell(c.state)),
    ` ${whole(c.different)} answers differ from ${c.against}'s; run time ${seconds(c.run)}, was ${seconds(c.usual)}${c.reason ? `: ${c.reason}` : ""}`));
  fill("models", table("Models", ["Class", "Model", ["Final"], ["Provisional, then cloud"], ["Cloud only"], ["Late"], ["Answer after"], ["Run"]], m.classes.map(c =>
    [c.class, `${c.model} ${c.version || "–"}`, [whole(c.final)], [whole(c.provisional)], [whole(c.judged + c.busy + c.unread + c.failed)], [whole(c.late)], [seconds(c.latency)], [seconds(c.run)]])),
  ...trouble, ...trials, facts([...m.classes.map(c => [`Hard examples, ${c.class}`, share(c)]), ["Answers of the cloud", `${whole(st.answers.published)} on the bus`],
    ["Waiting", `${several(m.tasks, "task")}, ${seconds(m.seconds)}`], ["Memory of models", `${bytes(m.bytes)} of ${bytes(m.limit)}`]]));
}

// overload returns the values that give way on each path, and the effect on each class.
function overload(o) {
  const giving = [["local", o.local], ["cloud", o.cloud]].filter(([, value]) => value > 0).map(([path, value]) => `${path}: up to value ${value}`).join(", ");
  const flow = f => `${f.class} at ${percent(f.pressure)}, ${whole(f.dropped + f.tooLate)} dropped, ${whole(f.reduced)} reduced, ${whole(f.rerouted)} rerouted`;
  return `${giving || "none"}; ${o.flows.map(flow).join("; ")}`;
}

function showRest(data) {
  const st = data.status, n = st.node;
  const time = ms => make("time", { datetime: new Date(ms).toISOString() }, clock(ms));
  fill("changes", data.changes.length ? make("ul", { class: "events" }, ...data.changes.map(c => make("li", {}, time(c.time), make("p", { class: c.good ? "" : "bad" }, make("i", { role: "img", "aria-label": c.good ? "good" : "bad" }, c.good ? "●" : "▲"), c.text))))
    : empty("Nothing yet."));
  const aside = reasons(st.events.quarantined);
  fill("quarantine", data.quarantined.length || aside ? make("p", { class: "sub" }, `Quarantined in total: ${aside || "0"}`) : empty("No messages quarantined."),
    data.quarantined.length ? make("ul", { class: "events" }, ...data.quarantined.map(q => make("li", {}, time(q.time), make("p", {}, make("b", {}, spell(q.reason)), " ", q.detail, make("br"), make("small", {}, `${q.topic || "topic unknown"} · ${bytes(q.size)}`))))) : null);
  fill("facts", facts([
    ["CPU", `${number(n.cpu)} % of ${several(n.cores, "core")}, ${number(n.ownCpu)} % by this process`], ["Memory", `${number(n.memory)} %${n.memoryStall ? `, stalled ${number(n.memoryStall)} % of the time` : ""}`],
    n.link && n.link.price > 0 && ["Price of a MB", number(n.link.price)],
    n.temperature !== null && ["Temperature", `${number(n.temperature)} °C`], n.watts !== null && ["Power, measured", watts(n.watts)],
    n.battery !== null && ["Battery", `${number(n.battery)} %${n.onBattery ? ", discharging" : ""}`],
    ["Waiting locally", several(n.queueTasks, "task")],
    st.undecided && st.undecided.tasks > 0 && ["Parked", `${several(st.undecided.tasks, "task")}, ${bytes(st.undecided.bytes)}`],
    st.overload && st.overload.flows && st.overload.flows.length > 0 && ["Overload", overload(st.overload)],
    ["In flight", `${whole(st.export.inflight)} ${st.export.inflight === 1 ? "batch" : "batches"}, ${bytes(st.export.inflightBytes)}`],
    ["Resent", `${whole(st.export.resent)} of ${whole(st.export.published)} batches`],
    ["Energy of tasks", `${number(st.policies.joules)} J, estimated`],
    st.policies.learned && st.policies.learned.age > 0 && ["Learned", `saved ${seconds(st.policies.learned.age)} ago`],
    st.policies.decisionLog && ["Decision log", `${whole(st.policies.decisionLog.written)} written, ${whole(st.policies.decisionLog.dropped)} omitted`],
    st.policies.governor && ["Frequency", `${st.policies.governor.state}: ${number(st.policies.governor.mhz)} MHz, ${percent(st.policies.governor.share)} of the highest`],
    ["Events refused", reasons(st.events.refused) || "none"], ["Damaged records", whole(st.spool.damaged)],
    ["Process", `${bytes(st.process.rss)}, ${st.process.goroutines} goroutines`], ["Configuration", st.configuration.version], ["Spool epoch", st.spool.epoch],
    ["Version", `${st.version}, commit ${st.commit}`], st.events.unsafe > 0 && ["At QoS 0", `${several(st.events.unsafe, "message")}, not protected by an acknowledgement`],
  ]));
}

// explain shows one decision with all its inputs.
async function explain(id) {
  const answer = await ask(`decisions/${id}`);
  if (!answer.ok) {
    $("detail-body").replaceChildren(make("p", { class: "sentence" }, answer.problem));
  } else {
    const d = answer.body.decision;
    $("detail-body").replaceChildren(make("p", { class: "sentence" }, d.explanation), ...ways(d), ...terms(d.decision), ...inputs(d),
      make("details", {}, make("summary", {}, "As JSON"), make("pre", { tabindex: "0" }, JSON.stringify(d, null, 2))));
  }
  put($("detail-title"), `Decision ${id}`);
  if (!$("detail").open) $("detail").showModal();
}

// ways compares both predictions with the actual time.
function ways(d) {
  const e = d.estimate, o = d.outcome;
  const rows = [["Local, predicted", e.localTime, "local", d.decision.target === "local"], ["Cloud, predicted", e.cloudTime, "cloud", d.decision.target === "cloud"]];
  if (o.known && !o.failed) rows.push(["Actual", o.time, "actual", true]);
  const longest = Math.max(...rows.map(r => r[1] || 0), 1e-9);
  return [make("h3", {}, "Completion time"), make("div", { class: "ways" }, ...rows.map(([name, t, kind, taken]) => make("div", { class: "way" },
    make("span", { class: taken ? "taken" : "" }, name), make("div", { class: "track", "aria-hidden": "true" }, make("i", { class: `${kind}${taken ? "" : " hatch"}`, width: `${(t || 0) / longest * 100}%` })),
    make("b", {}, t === null ? "unreachable" : seconds(t))))),
  make("p", { class: "hint" }, `Energy, estimated: local ${number(e.localEnergy)} J; cloud ${number(e.cloudEnergy)} J for ${bytes(e.bytes)} on the wire.`)];
}

// terms shows the terms of a weighted score, and its threshold.
function terms(d) {
  const parts = [["size", d.terms.size], ["complexity", d.terms.complexity], ["CPU", d.terms.cpu]];
  if (!parts.some(([, v]) => v)) return [];
  const text = parts.flatMap(([name, v], i) => [make("i", { class: `swatch term-${i}`, "aria-hidden": "true" }), `${i ? "+ " : ""}${name} ${v.toFixed(2)}`]);
  return [make("h3", {}, `Score ${d.score.toFixed(3)} = `, ...text),
    make("div", { class: "score", role: "img", "aria-label": `Score ${d.score.toFixed(2)}, threshold ${d.threshold}` },
      ...parts.map(([, v], i) => make("i", { class: `term-${i}`, width: `${Math.max(0, Math.min(1, v)) * 100}%` })), make("u", { left: `${d.threshold * 100}%` }, make("span", {}, `cloud from the threshold ${d.threshold}`)))];
}

function inputs(d) {
  const s = d.state, l = s.link;
  const left = facts([["Device", d.device || "–"], ["Class", d.class || "–"], ["Size", bytes(d.size)], ["Complexity", number(d.complexity)],
    ["Deadline", d.deadline ? seconds(d.deadline / 1e9) : "none"], ["Waited", seconds(d.waited / 1e9)], ["Part", d.of > 1 ? `${d.chunk + 1} of ${d.of}` : "whole"], ["Event", d.eventId]]);
  const right = facts([["CPU", `${number(s.cpu)} %`], ["Memory", `${number(s.memory)} %`], ["Local queue", `${several(s.queueTasks, "task")}, ${number(s.queueCycles)} Mcycles`],
    ["Link", l.up ? `up, ${l.goodput ? rate(l.goodput) : "not measured"}, ${seconds(l.rtt)}` : "down"], ["Spool", `${several(l.backlogTasks, "task")}, ${percent(l.backlogShare)} of its quota`],
    ["Policy", `${d.policy} ${d.version}`], ["Reason", spell(d.decision.reason)], ["Propensity", percent(d.decision.propensity)]]);
  return [make("h3", {}, "Inputs"), make("div", { class: "inputs" }, left, right)];
}
