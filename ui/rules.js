// Rules by group, with their health.

import { ago, api, badge, chips, durationText, el, live, queryLink, redraw } from "./lib.js";

const health = { ok: "good", err: "bad", unknown: "none" };

export function rulesView(main) {
  live(main, "Rules", async (content) => {
    const { data } = await api("rules", { exclude_alerts: "true" });
    if (!data.groups.length) {
      redraw(content, [el("p", { class: "panel empty" }, "No rules are loaded.")]);
      return;
    }
    redraw(content, data.groups.map(groupPanel));
  });
}

function groupPanel(group) {
  const failing = group.rules.filter((rule) => rule.health === "err").length;
  return el("section", { class: "panel" },
    el("details", { "data-key": `${group.file};${group.name}`, open: true },
      el("summary", {}, el("h2", {}, group.name), el("span", { class: "muted" }, group.file),
        failing ? badge("bad", `${failing} failing`) : null, el("span", { class: "grow" }),
        el("span", { class: "muted" }, `every ${durationText(group.interval)} · took ${durationText(group.evaluationTime)} · `, ago(group.lastEvaluation))),
      el("div", { class: "scroll" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Rule", "State", "Health", "Evaluated"].map((head) => el("th", { class: head === "Rule" ? "" : "tight" }, head)), el("th", { class: "num" }, "Took"))),
        el("tbody", {}, group.rules.map(ruleRow))))));
}

function ruleRow(rule) {
  const alerting = rule.type === "alerting";
  const states = { firing: "bad", pending: "warn" };
  return el("tr", {},
    el("td", {},
      el("div", {}, el("span", { class: "muted" }, alerting ? "alert " : "record "), el("strong", { class: "mono" }, rule.name), " ", chips(rule.labels ?? {}),
        alerting && rule.duration ? el("span", { class: "muted" }, ` for ${durationText(rule.duration)}`) : null),
      el("pre", { class: "code" }, el("a", { href: queryLink(rule.query) }, rule.query)),
      rule.lastError ? el("p", { class: "box error" }, rule.lastError) : null),
    el("td", { class: "tight" }, alerting ? badge(states[rule.state] ?? "none", rule.state) : el("span", { class: "muted" }, "–")),
    el("td", { class: "tight" }, badge(health[rule.health] ?? "none", rule.health)),
    el("td", { class: "tight" }, ago(rule.lastEvaluation)),
    el("td", { class: "num" }, durationText(rule.evaluationTime)));
}
