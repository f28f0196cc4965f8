// Scrape targets by pool.

import { ago, api, badge, chips, durationText, el, live, redraw } from "./lib.js";

const kinds = { up: "good", down: "bad", unknown: "none" };

export function targetsView(main) {
  let onlyUnhealthy = false;
  let data;
  const draw = (content) => {
    const pools = new Map();
    for (const target of data.activeTargets) {
      if (!pools.has(target.scrapePool)) pools.set(target.scrapePool, []);
      pools.get(target.scrapePool).push(target);
    }
    if (!pools.size) {
      redraw(content, [el("p", { class: "panel empty" }, "No targets are scraped.")]);
      return;
    }
    const panels = [...pools].sort(([a], [b]) => a.localeCompare(b)).map(([pool, targets]) => {
      const up = targets.filter((target) => target.health === "up").length;
      const wanted = onlyUnhealthy ? targets.filter((target) => target.health !== "up") : targets;
      if (onlyUnhealthy && !wanted.length) return null;
      const dropped = data.droppedTargetCounts?.[pool] ?? 0;
      return el("section", { class: "panel" }, el("details", { "data-key": pool, open: true },
        el("summary", {}, el("h2", {}, pool), badge(up === targets.length ? "good" : "bad", `${up} of ${targets.length} up`),
          dropped ? el("span", { class: "muted" }, `${dropped} dropped by relabelling`) : null),
        el("div", { class: "scroll" }, el("table", {},
          el("thead", {}, el("tr", {}, ["Endpoint", "Health", "Labels", "Last scrape"].map((head) => el("th", {}, head)), el("th", { class: "num" }, "Took"))),
          el("tbody", {}, wanted.map(targetRow))))));
    }).filter(Boolean);
    redraw(content, panels.length ? panels : [el("p", { class: "panel empty" }, "Every target is up.")]);
  };
  let built = false;
  live(main, "Targets", async (content, tools) => {
    ({ data } = await api("targets"));
    if (!built) {
      built = true;
      tools.style.marginBottom = "12px";
      tools.replaceChildren(el("label", {}, el("input", { type: "checkbox", onchange: (event) => {
        onlyUnhealthy = event.target.checked;
        draw(content);
      } }), " only targets that are not up"));
    }
    draw(content);
  });
}

function targetRow(target) {
  return el("tr", {},
    el("td", {}, el("a", { href: target.globalUrl || target.scrapeUrl, rel: "noreferrer" }, el("code", {}, target.scrapeUrl)),
      target.lastError ? el("p", { class: "box error" }, target.lastError) : null),
    el("td", { class: "tight" }, badge(kinds[target.health] ?? "none", target.health)),
    el("td", {}, chips(target.labels)),
    el("td", { class: "tight" }, ago(target.lastScrape), el("div", { class: "muted" }, `every ${target.scrapeInterval}`)),
    el("td", { class: "num" }, durationText(target.lastScrapeDuration)));
}
