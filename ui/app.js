// The page's entry: which view stands at this path, and what all views share.

import { alertsView } from "./alerts.js";
import { queryView } from "./query.js";
import { rulesView } from "./rules.js";
import { statusView } from "./status.js";
import { targetsView } from "./targets.js";
import { settings } from "./lib.js";

const views = {
  query: ["Query", queryView],
  graph: ["Query", queryView],
  alerts: ["Alerts", alertsView],
  rules: ["Rules", rulesView],
  targets: ["Targets", targetsView],
  status: ["Status", statusView],
};

const name = location.pathname.split("/").pop();
const [title, view] = views[name] ?? views.query;
document.title = `${title} · ${document.title}`;
for (const link of document.querySelectorAll("nav a")) {
  if (link.textContent === title) link.setAttribute("aria-current", "page");
}

const utc = document.getElementById("utc");
utc.checked = settings.utc;
utc.addEventListener("change", () => {
  settings.utc = utc.checked;
  location.reload();
});

view(document.getElementById("main"));
