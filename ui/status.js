// What runs here: build, runtime, Alertmanagers, flags, configuration.

import { api, el, errorBox, timeText } from "./lib.js";

export async function statusView(main) {
  main.replaceChildren(el("h1", {}, "Status"));
  const section = async (title, path, render) => {
    const body = el("div", { class: "body muted" }, "Loading…");
    main.append(el("section", { class: "panel" }, el("div", { class: "head" }, el("h2", {}, title)), body));
    try {
      const { data } = await api(path);
      body.className = "scroll";
      body.replaceChildren(render(data));
    } catch (error) {
      body.replaceChildren(errorBox(error));
    }
  };
  await Promise.all([
    section("Runtime", "status/runtimeinfo", pairs),
    section("Build", "status/buildinfo", pairs),
    section("Alertmanagers", "alertmanagers", (data) => data.activeAlertmanagers.length
      ? el("table", {}, el("tbody", {}, data.activeAlertmanagers.map(({ url }) => el("tr", {}, el("td", {}, el("code", {}, url))))))
      : el("p", { class: "empty" }, "No Alertmanager is configured: alerts are evaluated but nobody is notified.")),
    section("Configuration", "status/config", (data) => el("pre", { class: "code" }, data.yaml)),
    section("Flags", "status/flags", pairs),
  ]);
}

function pairs(data) {
  return el("table", {}, el("tbody", {}, Object.entries(data).map(([name, value]) => el("tr", {},
    el("td", { class: "tight muted" }, name), el("td", {}, el("code", {}, valueText(value)))))));
}

function valueText(value) {
  const isTime = typeof value === "string" && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value);
  return isTime ? timeText(new Date(value)) : String(value);
}
