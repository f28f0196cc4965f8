// Alerts: what fires, what is about to, and why.

import { ago, api, badge, chips, durationText, el, live, queryLink, redraw } from "./lib.js";

const kinds = { firing: "bad", pending: "warn", inactive: "none", unknown: "none" };
const order = ["firing", "pending", "unknown", "inactive"];

export function alertsView(main) {
  const shown = new Set(["firing", "pending"]);
  let text = "";
  let groups = [];
  let filters;
  let first = true;

  const draw = (content) => {
    const rules = groups.flatMap((group) => group.rules.map((rule) => ({ ...rule, group })))
      .sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.name.localeCompare(b.name));
    const counts = Object.groupBy ? Object.groupBy(rules, (r) => r.state) : rules.reduce((all, r) => ({ ...all, [r.state]: [...(all[r.state] ?? []), r] }), {});
    // With nothing wrong, an empty page would look like a failure.
    if (first && !counts.firing && !counts.pending) shown.add("inactive").add("unknown");
    first = false;
    filters.replaceChildren(
      ...["firing", "pending", "inactive", "unknown"].filter((s) => s !== "unknown" || counts.unknown).map((state) =>
        el("label", {}, el("input", { type: "checkbox", checked: shown.has(state), onchange: (event) => {
          if (event.target.checked) shown.add(state); else shown.delete(state);
          draw(content);
        } }), " ", badge(kinds[state], `${state} ${counts[state]?.length ?? 0}`))));
    const needle = text.toLowerCase();
    const matches = (rule) => !needle || [rule.name, JSON.stringify(rule.labels), ...rule.alerts.map((a) => JSON.stringify(a.labels))]
      .some((part) => part.toLowerCase().includes(needle));
    const wanted = rules.filter((rule) => shown.has(rule.state) && matches(rule));
    if (!rules.length) return redraw(content, [el("p", { class: "panel empty" }, "No alerting rules are loaded.")]);
    if (!wanted.length) return redraw(content, [el("p", { class: "panel empty" }, "No alert matches.")]);
    redraw(content, [el("div", { class: "panel" }, wanted.map(ruleDetails))]);
  };

  live(main, "Alerts", async (content, tools) => {
    const answer = await api("rules", { type: "alert" });
    groups = answer.data.groups;
    if (!filters) {
      filters = el("span", { class: "bar" });
      tools.replaceChildren(filters, el("span", { class: "grow" }),
        el("input", { type: "search", placeholder: "Filter by name or label", "aria-label": "Filter", oninput: (event) => {
          text = event.target.value;
          draw(content);
        } }));
      tools.style.marginBottom = "12px";
    }
    draw(content);
  });
}

function ruleDetails(rule) {
  const kind = kinds[rule.state] ?? "none";
  const summary = rule.annotations?.summary ?? rule.annotations?.message;
  return el("details", { "data-key": `${rule.group.file};${rule.group.name};${rule.name}`, open: rule.state === "firing", class: `edge-${kind}` },
    el("summary", {}, badge(kind, rule.state), el("strong", {}, rule.name),
      rule.alerts.length ? el("span", { class: "muted" }, `${rule.alerts.length} active`) : null,
      rule.health === "err" ? badge("bad", "evaluation fails") : null,
      chips(rule.labels),
      el("span", { class: "grow" }), el("span", { class: "muted" }, `${rule.group.name} · ${rule.group.file.split("/").pop()}`)),
    el("div", { class: "inner" },
      rule.lastError ? el("p", { class: "box error" }, rule.lastError) : null,
      el("pre", { class: "code" }, el("a", { href: queryLink(rule.query) }, rule.query)),
      el("p", { class: "muted" }, rule.duration ? `fires after ${durationText(rule.duration)}` : "fires at once",
        rule.keepFiringFor ? `, keeps firing for ${durationText(rule.keepFiringFor)}` : "",
        " · evaluated ", ago(rule.lastEvaluation), summary && !rule.alerts.length ? ` · ${summary}` : ""),
      rule.alerts.length ? alertTable(rule) : null));
}

function alertTable(rule) {
  const alerts = [...rule.alerts].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.activeAt.localeCompare(b.activeAt));
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["State", "Labels and annotations", "Active"].map((head) => el("th", {}, head)), el("th", { class: "num" }, "Value"))),
    el("tbody", {}, alerts.map((alert) => el("tr", {},
      el("td", { class: "tight" }, badge(kinds[alert.state], alert.state), alert.keepFiringSince ? el("div", { class: "muted" }, "kept since ", ago(alert.keepFiringSince)) : null),
      el("td", {}, chips(alert.labels, ["alertname"]), annotations(alert.annotations)),
      el("td", { class: "tight" }, ago(alert.activeAt)),
      el("td", { class: "num" }, String(Number(alert.value.replace("Inf", "Infinity")))))))));
}

function annotations(values) {
  const entries = Object.entries(values ?? {});
  if (!entries.length) return null;
  return el("dl", { class: "notes" }, entries.map(([name, value]) => [el("dt", {}, name), el("dd", {}, linked(value))]));
}

// Runbook links are what one wants at 3 a.m.
function linked(text) {
  return /^https?:\/\/\S+$/.test(text) ? el("a", { href: text, rel: "noreferrer noopener", target: "_blank" }, text) : text;
}
