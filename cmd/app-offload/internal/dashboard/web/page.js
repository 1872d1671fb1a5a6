// The page polls every few seconds, shows the answer, and reports a missing one.
const base = location.pathname.replace(/\/ui\/?$/, "/");
const patience = 5000; // ms until a request counts as unanswered
let token = document.querySelector("meta[name=token]").content;
let hist = { t: [] }, seen = 0, started = 0, data = null;
let answeredAt = Date.now(), goneSince = 0, timer = 0, busy = false, again = false, painted = false, sized = false;

// ask sends one request to the API. It never throws.
async function ask(path, method = "GET") {
  const stop = new AbortController(), bell = setTimeout(() => stop.abort(), patience);
  try {
    const r = await fetch(base + path, { method, signal: stop.signal, cache: "no-store", headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const body = await r.json().catch(() => ({}));
    return { ok: r.ok, status: r.status, body, problem: body.message || `the service answered ${r.status}` };
  } catch (e) {
    return { ok: false, status: 0, problem: e.name === "AbortError" ? `no answer within ${patience / 1000} s` : "the service does not answer" };
  } finally {
    clearTimeout(bell);
  }
}

// poll requests new data. A call during a poll, with another filter or token, triggers another poll.
async function poll() {
  clearTimeout(timer);
  again = busy;
  if (busy) return;
  busy = true;
  const form = new FormData($("filters")), query = new URLSearchParams({ since: seen });
  for (const [k, v] of form) if (v) query.set(k, v);
  const answer = await ask(`ui/data?${query}`);
  busy = false;
  if (again) return poll();
  if (answer.ok) take(answer.body);
  else miss(answer);
  if (!document.hidden) timer = setTimeout(poll, goneSince ? Math.min(10000, 1000 + (Date.now() - goneSince) / 10) : data.every);
}

// take shows an answer. A restarted process starts a new history.
function take(next) {
  goneSince = 0;
  answeredAt = Date.now();
  if (Math.abs(next.started - started) > 3000 && started) {
    seen = 0;
    hist = { t: [] };
    started = next.started;
    cursor = null;
    if (next.history.first > 1) { poll(); return; }
  }
  started = next.started;
  data = next;
  grow(next.history);
  document.body.classList.remove("stale");
  show();
}

// grow adds new points, and removes those that no chart shows any more.
function grow(h) {
  const fresh = h.t.length;
  for (const [key, values] of Object.entries(h)) if (Array.isArray(values)) hist[key] = (hist[key] || []).concat(values);
  if (fresh) seen = h.first + fresh - 1;
  const old = hist.t.findIndex(t => t >= newest() - longest);
  if (old > 0) for (const key of Object.keys(hist)) hist[key] = hist[key].slice(old);
  if (cursor !== null && old > 0) cursor = Math.max(0, cursor - old);
}

// miss reports that the figures are stale, and since when.
function miss(answer) {
  if (!goneSince) goneSince = answeredAt;
  if (token && (answer.status === 401 || answer.status === 403)) { // without a token in the page, a proxy holds it and reports the remedy
    if (!$("signin").open) $("signin").showModal();
  }
  document.body.classList.add("stale");
  state("bad", answer.status === 401 ? "Not signed in" : "No connection");
  banners([["bad", answer.status === 401 ? "No access" : "No connection", `${answer.problem}. Last answer at ${clock(goneSince)}, ${span(Date.now() - goneSince)} ago; the page shows that state. Retrying.`]]);
}

function state(kind, text) {
  $("state").className = `state ${kind}`;
  put($("state-text"), text);
  document.title = `${kind === "good" ? "" : kind === "bad" ? "✕ " : "▲ "}app-offload${data ? " · " + data.status.nodeName : ""}`;
}

const marks = { bad: "✕", warn: "▲", note: "ℹ" };

function banners(list) {
  fill("banners", ...list.map(([kind, title, text]) => make("p", { class: `banner ${kind}` }, make("b", {}, `${marks[kind]} ${title}`), make("span", {}, text))));
}

function show() {
  const st = data.status;
  put($("node"), st.nodeName);
  put($("about"), `version ${st.version}, commit ${st.commit} · up ${span(data.now - data.started)} · configuration ${st.configuration.version}`);
  const all = problems(st), list = all.filter(p => p[0] !== "note");
  banners(all);
  state({ well: "good", degraded: "warn", failing: "bad" }[st.health.state] || "bad", st.health.state === "well" ? "All is well" : list.length === 1 ? list[0][1] : `${list.length} problems`);
  tiles(st);
  if (painted) below(st);
  else requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { painted = true; below(data.status); }))); // by the second frame the first has been painted
}

// below shows the parts that the first paint does not wait for.
function below(st) {
  put($("charts-title"), `The last ${Math.max(2, Math.round(shown() / 60))} minutes`);
  if (!sized) watchSize();
  sized = true;
  charts.forEach(draw);
  showDecisions(data.decisions);
  showModels(st);
  showPolicies(st);
  showRest(data);
  classes(st);
}

// The titles of the health's reasons; a reason without a title is shown by its code.
const titles = {
  stopping: "Stopping", intake: "Not ready", spool: "Spool failing", diskFull: "Disk full", spoolFull: "Spool full", refused: "Events refused", account: "Account out of balance",
  dropped: "Dropped", keys: "Keys", quarantine: "Quarantine", configuration: "Configuration refused", clock: "Clock set", linkDown: "Link down",
  consumerSilent: "No receipts", held: "Records held", statements: "Statements ignored", copied: "Copied spool", learned: "Learned state not saved",
  canary: "Canary rolled back", unsafe: "Unprotected events", otherResults: "Two services", models: "Models unusable", drift: "Data drift", modelCanary: "Model rolled back", busRival: "Client id in use", resultLoop: "Result loop",
};

// problems returns the reasons of the health, the worst first, as the service orders them.
const problems = st => st.health.reasons.map(r => [
  { critical: "bad", warning: "warn" }[r.severity] || "note", titles[r.code] || spell(r.code), `${r.text} (for ${span(data.now - new Date(r.since))})`,
]);

// recent returns the mean of a series over the last half minute.
function recent(key) {
  const values = (hist[key] || []).slice(-15).filter(v => v !== null);
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
}

function tile(id, kind, big, unit, sub) {
  const t = $(`tile-${id}`), b = t.querySelector(".big");
  t.className = `tile ${kind}`;
  if (b.textContent !== `${big} ${unit}`) b.replaceChildren(`${big} `, make("small", {}, unit));
  put(t.querySelector(".sub"), sub);
}

function tiles(st) {
  const c = st.counts, l = st.link, perSecond = recent("events"), quiet = data.lastEvent ? data.now - data.lastEvent : data.now - data.started;
  tile("events", quiet > 30000 ? "warn" : "", number(perSecond), "events/s", quiet > 10000 ? `nothing for ${span(quiet)}` : `${whole(st.events.received)} so far`);
  const here = recent("local"), there = recent("cloud"), share = here + there > 0 ? here / (here + there) : c.local / Math.max(c.accepted, 1);
  tile("where", "", percent(share), "local", `${number(here)}/s local · ${number(there)}/s to the cloud`);
  const [a, b] = $("tile-where").querySelectorAll(".split i");
  a.style.width = `${share * 100}%`;
  a.style.minWidth = share > 0 ? "3px" : "0"; // a small share stays visible
  b.style.minWidth = c.accepted && share < 1 ? "3px" : "0";
  b.style.width = c.accepted ? `${100 - share * 100}%` : "0";
  tile("link", l.up ? "good" : "warn", l.up ? "● Up" : "▲ Down", `${span(data.now - data.linkSince)}`, l.up ? [l.goodput ? `goodput ${rate(l.goodput)}` : "goodput not measured yet", l.rtt ? `round trip ${seconds(l.rtt)}` : null].filter(t => t).join(" · ") : "tasks wait in the spool");
  tile("backlog", l.backlogShare > 0.8 || st.spool.problem ? "warn" : "", whole(st.spool.tasks), noun(st.spool.tasks, "task"), `${percent(st.spool.fill)} full: ${bytes(st.spool.bytes)} of ${bytes(st.spool.limit)}${st.spool.tasks ? ` · oldest ${seconds(st.spool.oldestAge)}` : ""}`);
  $("tile-backlog").querySelector(".meter i").style.width = `${st.spool.fill * 100}%`;
  const lost = sum(c.dropped), fresh = st.drops.unacknowledged;
  tile("dropped", fresh ? "warn" : "", whole(lost), noun(lost, "task"), lost ? fresh ? newDrops(st.drops) : `${reasons(c.dropped)} · all acknowledged` : "nothing dropped");
  $("acknowledge").hidden = !fresh;
  tile("account", c.balance === 0 ? "good" : "bad", c.balance === 0 ? "✓" : `✕ ${whole(c.balance)}`, c.balance === 0 ? "balanced" : "unexplained",
    `${whole(c.accepted)} = ${whole(c.local)} local + ${whole(c.receipted)} receipted + ${whole(c.spooled)} spooled + ${whole(lost)} dropped`);
}

// newDrops lists the unacknowledged drops with class, reason and time of the first.
const newDrops = drops => drops.list.filter(d => d.unacknowledged).map(d => `${whole(d.unacknowledged)} of ${d.class || "no class"}: ${spell(d.reason)}, ${d.first ? `since ${moment(d.first)}` : "time unknown"}`).join(" · ");

async function acknowledge() {
  const answer = await ask("drops/acknowledge", "POST");
  if (!answer.ok) banners([["bad", "Not acknowledged", answer.problem]]);
  else poll();
}

// classes adds new classes to the filter.
function classes(st) {
  const select = $("filters").elements.class, known = new Set([...select.options].map(o => o.value));
  for (const name of [...(st.policies.decided || []).map(d => d.class), ...data.decisions.map(d => d.class)]) {
    if (name && !known.has(name)) { select.append(make("option", { value: name }, name)); known.add(name); }
  }
}

function follow() {
  const id = /^#decision-(\d+)$/.exec(location.hash);
  if (id) explain(id[1]);
  else if ($("detail").open) $("detail").close();
}

function wire() {
  chart("Tasks a second", "by target", [{ key: "local", name: "local", color: "local", area: true }, { key: "cloud", name: "cloud", color: "cloud", area: true }, { key: "dropped", name: "dropped", color: "bad" }], { stack: true, least: 1 });
  chart("Completion time", "predicted and actual, log scale", [{ key: "localPredicted", name: "local predicted", color: "local", dash: true }, { key: "localActual", name: "local actual", color: "local" }, { key: "cloudPredicted", name: "cloud predicted", color: "cloud", dash: true }, { key: "cloudActual", name: "cloud actual", color: "cloud" }], { log: true, format: seconds, none: "No outcome is known yet" });
  chart("CPU and memory", "% of the node", [{ key: "cpu", name: "CPU", color: "local", area: true }, { key: "own", name: "this process", color: "third" }, { key: "memory", name: "memory", color: "dim", dash: true }], { max: 100, format: v => v === null ? "–" : `${number(v)} %` });
  chart("Link", "log scale; red where it was down", [{ key: "sent", name: "sent", color: "cloud", area: true }, { key: "goodput", name: "goodput", color: "dim", dash: true }], { log: true, format: rate, none: "Nothing was sent yet" });
  chart("Spool", "backlog", [{ key: "spoolBytes", name: "bytes", color: "cloud", area: true }], { binary: true, least: 1024, format: bytes });
  chart("Energy", "W", [{ key: "taskPower", name: "tasks, estimated", color: "third", area: true }, { key: "nodePower", name: "whole node, measured", color: "dim", dash: true }], { least: 0.01, format: watts });
  window.addEventListener("hashchange", follow);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("click", e => { if (e.target === $("detail")) $("detail").close(); });
  $("detail").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  $("filters").addEventListener("submit", e => e.preventDefault());
  $("filters").addEventListener("input", poll);
  $("hold").addEventListener("click", () => { $("hold").setAttribute("aria-pressed", String($("hold").getAttribute("aria-pressed") !== "true")); put($("held"), held()); });
  $("acknowledge").addEventListener("click", acknowledge);
  $("signin-form").addEventListener("submit", () => { token = $("jwt").value.trim(); $("jwt").value = ""; poll(); });
}

wire();
take(JSON.parse($("first").textContent));
follow();
timer = setTimeout(poll, data.every);
