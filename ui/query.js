// A query as a table or a graph. The address holds everything, so that a link shows the
// same; its parameters are those of Prometheus' page, where alert notifications link to.

import { chart } from "./chart.js";
import { api, el, errorBox, formatDuration, metric, notes, parseDuration, settings, timeText, clockText } from "./lib.js";
import { suggest } from "./suggest.js";

const ROWS_MAX = 1000;
const SERIES_MAX = 200;
const RANGES = [60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000];

export function queryView(main) {
  const params = new URLSearchParams(location.search);
  const state = {
    expr: params.get("g0.expr") ?? "",
    tab: params.get("g0.tab") === "0" ? "graph" : "table",
    range: parseDuration(params.get("g0.range_input") ?? "") ?? 3600,
    end: parseEnd(params.get("g0.end_input") ?? params.get("g0.moment_input")),
    step: parseDuration(params.get("g0.step_input") ?? "") ?? null,
  };
  let running = null;

  const input = el("textarea", { rows: Math.min(8, state.expr.split("\n").length), spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-label": "PromQL expression", placeholder: "PromQL expression, for example: sum by (job) (rate(http_requests_total[5m]))" });
  input.value = state.expr;
  const run = el("button", { class: "primary", type: "submit" }, "Execute");
  const form = el("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); submit(); } }, suggest(input), run);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.defaultPrevented) {
      event.preventDefault();
      submit();
    }
  });

  const tab = (name, title) => el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "result", onclick: () => { state.tab = name; submit(); } }, title);
  const tabs = { table: tab("table", "Table"), graph: tab("graph", "Graph") };
  const controls = el("div", { class: "bar" });
  const facts = el("span", { class: "muted", role: "status" });
  const result = el("div", { class: "body", id: "result", role: "tabpanel" });
  main.replaceChildren(
    el("h1", {}, "Query"),
    form,
    el("section", { class: "panel" },
      el("div", { class: "head" }, el("div", { class: "tabs", role: "tablist" }, tabs.table, tabs.graph), controls, el("span", { class: "grow" }), facts),
      result));

  drawControls();
  if (state.expr) execute(); else { empty(); input.focus(); }
  addEventListener("popstate", () => location.reload());

  function empty() {
    const past = settings.history.slice(0, 8);
    result.replaceChildren(el("div", { class: "empty" },
      el("p", {}, "Type an expression and press Enter."),
      past.length ? el("p", { class: "muted" }, "Recent:") : null,
      past.map((expr) => el("p", {}, el("a", { href: "#", onclick: (event) => { event.preventDefault(); input.value = expr; submit(); } }, el("code", {}, expr))))));
  }

  function submit() {
    state.expr = input.value.trim();
    drawControls();
    const query = new URLSearchParams({ "g0.expr": state.expr, "g0.tab": state.tab === "graph" ? "0" : "1", "g0.range_input": formatDuration(state.range) });
    if (state.end) query.set("g0.end_input", state.end.toISOString());
    if (state.step) query.set("g0.step_input", formatDuration(state.step));
    const url = `${location.pathname}?${query}`;
    if (url !== location.pathname + location.search) history.pushState(null, "", url);
    if (state.expr) execute(); else { running?.abort(); facts.textContent = ""; empty(); }
  }

  function drawControls() {
    for (const [name, button] of Object.entries(tabs)) button.setAttribute("aria-selected", String(state.tab === name));
    const when = el("input", { type: "datetime-local", step: "1", "aria-label": state.tab === "graph" ? "End time" : "Evaluation time", onchange: (event) => {
      state.end = event.target.value ? parseEnd(`${event.target.value}${settings.utc ? "Z" : ""}`) : null;
      submit();
    } });
    if (state.end) when.value = timeText(state.end).replace(" ", "T");
    const now = el("button", { type: "button", disabled: !state.end, onclick: () => { state.end = null; submit(); } }, "Now");
    if (state.tab === "table") {
      controls.replaceChildren(when, now);
      return;
    }
    const length = el("input", { type: "text", value: formatDuration(state.range), "aria-label": "Range", onchange: (event) => {
      state.range = parseDuration(event.target.value.trim()) ?? state.range;
      submit();
    } });
    const zoom = (direction) => () => {
      const next = direction > 0 ? RANGES.find((r) => r > state.range) : RANGES.findLast((r) => r < state.range);
      state.range = next ?? state.range;
      submit();
    };
    const move = (direction) => () => {
      const end = (state.end ?? new Date()).getTime() + direction * state.range * 500;
      state.end = end >= Date.now() ? null : new Date(end);
      submit();
    };
    const step = el("input", { type: "text", value: state.step ? formatDuration(state.step) : "", placeholder: "auto", size: 6, "aria-label": "Step", title: "Step, for example 15s", onchange: (event) => {
      state.step = parseDuration(event.target.value.trim());
      submit();
    } });
    const button = (text, title, onclick) => el("button", { type: "button", title, "aria-label": title, onclick }, text);
    controls.replaceChildren(
      el("span", { class: "group" }, button("−", "Shorter range", zoom(-1)), length, button("+", "Longer range", zoom(1))),
      el("span", { class: "group" }, button("‹", "Earlier", move(-1)), when, button("›", "Later", move(1))),
      now, el("label", { class: "muted" }, "step ", step));
  }

  async function execute() {
    running?.abort();
    const own = new AbortController();
    running = own;
    const started = performance.now();
    facts.textContent = "Running…";
    const end = state.end ?? new Date();
    const graph = state.tab === "graph";
    const step = state.step ?? Math.max(Math.floor(state.range / 250), 1);
    const start = end.getTime() / 1000 - state.range;
    try {
      const answer = graph
        ? await api("query_range", { query: state.expr, start, end: end.getTime() / 1000, step }, { post: true, signal: own.signal })
        : await api("query", { query: state.expr, time: end.getTime() / 1000 }, { post: true, signal: own.signal });
      const took = performance.now() - started;
      const { data } = answer;
      const count = Array.isArray(data.result) && data.resultType !== "scalar" && data.resultType !== "string" ? data.result.length : 1;
      facts.textContent = `${count} series · ${took < 10 ? took.toFixed(1) : Math.round(took)} ms${graph ? ` · step ${formatDuration(step)}` : ""}`;
      settings.remember(state.expr);
      result.replaceChildren(...notes(answer), ...(graph ? graphNodes(data, start, end.getTime() / 1000, step) : tableNodes(data)));
    } catch (error) {
      if (error.name === "AbortError") return;
      facts.textContent = "";
      result.replaceChildren(errorBox(error, state.expr));
    }
  }

  function graphNodes(data, start, end, step) {
    if (!data.result.length) return [nothing()];
    const shown = data.result.slice(0, SERIES_MAX);
    const cut = data.result.length > shown.length
      ? el("p", { class: "box info" }, `${data.result.length} series; the first ${SERIES_MAX} are drawn. Aggregate or filter to see the others.`) : null;
    const histograms = shown.some((series) => series.histograms)
      ? el("p", { class: "box info" }, "Native histograms are not drawn; use histogram_quantile(), histogram_avg() or the table.") : null;
    const zoomTo = (from, to) => {
      state.range = Math.max(to - from, 10);
      state.end = new Date(to * 1000);
      submit();
    };
    return [cut, histograms, chart(shown, { start, end, step, zoomTo })].filter(Boolean);
  }
}

function parseEnd(text) {
  if (!text) return null;
  // Prometheus' page writes "2026-01-02 03:04:05" in UTC.
  const iso = /^\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?$/.test(text) ? `${text.replace(" ", "T")}Z` : text;
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? null : date;
}

function nothing() {
  return el("p", { class: "empty" }, "No data: the expression is valid but selects nothing at this time.");
}

function tableNodes(data) {
  if (data.resultType === "scalar" || data.resultType === "string") {
    return [table([[el("span", { class: "muted" }, data.resultType), data.result[1]]])];
  }
  if (!data.result.length) return [nothing()];
  const holder = el("div");
  const fill = (max) => {
    const rows = data.result.slice(0, max).map((series) => [metric(series.metric), valueNode(series)]);
    const more = data.result.length - rows.length;
    holder.replaceChildren(table(rows),
      ...(more > 0 ? [el("p", { class: "bar" }, `${rows.length} of ${data.result.length} series. `, el("button", { type: "button", onclick: () => fill(Infinity) }, "Show all"))] : []));
  };
  fill(ROWS_MAX);
  return [holder];
}

function valueNode(series) {
  if (series.value) return series.value[1];
  if (series.histogram) return histogramNode(series.histogram[1]);
  const points = [...(series.values ?? []), ...(series.histograms ?? [])].sort((a, b) => a[0] - b[0]);
  return el("div", {}, points.map(([time, value]) => el("div", {},
    typeof value === "string" ? value : histogramNode(value),
    el("span", { class: "muted", title: String(time) }, ` @${clockText(new Date(time * 1000), { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 })}`))));
}

function histogramNode(histogram) {
  const brackets = [["(", "]"], ["[", ")"], ["(", ")"], ["[", "]"]];
  return el("details", {}, el("summary", {}, `count ${histogram.count}, sum ${histogram.sum}`),
    (histogram.buckets ?? []).map(([kind, low, high, count]) => el("div", {}, `${brackets[kind][0]}${low}, ${high}${brackets[kind][1]} ${count}`)));
}

function table(rows) {
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "Series"), el("th", { class: "num" }, "Value"))),
    el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", { class: "num" }, value))))));
}
