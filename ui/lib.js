// What views share: elements, requests, formats.

export const settings = {
  get utc() { return read("watchfire.utc") === "1"; },
  set utc(on) { write("watchfire.utc", on ? "1" : "0"); },
  get history() {
    try { return JSON.parse(read("watchfire.history") ?? "[]"); } catch { return []; }
  },
  remember(expr) {
    const rest = this.history.filter((e) => e !== expr);
    write("watchfire.history", JSON.stringify([expr, ...rest].slice(0, 50)));
  },
};

// Storage can be switched off in the browser; the page works without it.
function read(key) { try { return localStorage.getItem(key); } catch { return null; } }
function write(key, value) { try { localStorage.setItem(key, value); } catch { /* stays unset */ } }

// el("a", { href: "x", class: "y" }, "text", node): text is never read as HTML.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter((child) => child != null && child !== false));
  return node;
}

export class ApiError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

// Calls the API; long queries do not fit into URLs, so parameters go into the body.
export async function api(path, parameters, { post = false, signal } = {}) {
  const body = new URLSearchParams(parameters ?? {});
  const url = post || !parameters ? `api/v1/${path}` : `api/v1/${path}?${body}`;
  let response;
  try {
    response = await fetch(url, post ? { method: "POST", body, signal } : { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "The server does not answer. It may be restarting; this page keeps what it shows.");
  }
  if (response.status === 503 && !response.headers.get("content-type")?.includes("json")) {
    const stopping = response.headers.get("x-prometheus-stopping") === "true";
    throw new ApiError("not ready", stopping ? "The server is shutting down." : "The server is starting: it replays its write-ahead log and answers when that is done.");
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new ApiError("unreadable", `The answer is no JSON (HTTP status ${response.status}).`);
  }
  if (answer.status !== "success") throw new ApiError(answer.errorType ?? "error", answer.error ?? "unknown error");
  return answer;
}

const names = {
  bad_data: "The query is not valid", execution: "The query failed", timeout: "The query took too long",
  canceled: "The query was cancelled", internal: "Storage error", unreachable: "No connection",
  "not ready": "Not ready yet",
};

// An error with, for a parse error, the place it is about.
export function errorBox(error, expr) {
  const message = error.message.replace(/^invalid parameter "query": /, "");
  const at = /^(\d+):(\d+): parse error/.exec(message);
  let excerpt;
  if (at && expr != null) {
    const line = expr.split("\n")[at[1] - 1] ?? "";
    // Columns count bytes.
    const bytes = new TextEncoder().encode(line);
    const decode = (part) => new TextDecoder().decode(part);
    const start = Math.min(at[2] - 1, bytes.length);
    const rest = decode(bytes.slice(start));
    const word = /^[\w:.]+|^./u.exec(rest)?.[0] ?? " ";
    excerpt = el("pre", {}, decode(bytes.slice(0, start)), el("mark", {}, word), rest.slice(word.length));
  }
  return el("div", { class: "box error", role: "alert" },
    el("p", {}, el("strong", {}, `${names[error.kind] ?? "Error"}: `), message), excerpt);
}

export function notes(answer) {
  const box = (kind, texts) => texts?.length
    ? el("div", { class: `box ${kind}`, role: "status" }, texts.map((text) => el("p", {}, text))) : null;
  return [box("warn", answer.warnings), box("info", answer.infos)].filter(Boolean);
}

export function metric(labels) {
  const { __name__: name, ...rest } = labels;
  const pairs = Object.entries(rest);
  const node = el("span", { class: "metric" }, name ? el("span", { class: "n" }, name) : null);
  if (pairs.length || !name) {
    node.append("{");
    pairs.forEach(([key, value], i) => node.append(i ? ", " : "", el("span", { class: "k" }, `${key}=`), JSON.stringify(value)));
    node.append("}");
  }
  return node;
}

export const metricText = (labels) => metric(labels).textContent;

export const chips = (labels, skip = []) => Object.entries(labels)
  .filter(([key]) => !skip.includes(key))
  .map(([key, value]) => el("span", { class: "chip" }, `${key}="${value}"`));

export const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);

const zone = () => (settings.utc ? { timeZone: "UTC" } : {});

export function timeText(date, { seconds = true } = {}) {
  return date.toLocaleString("sv-SE", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}), ...zone(),
  });
}

export function clockText(date, options) {
  return date.toLocaleString("sv-SE", { ...options, ...zone() });
}

export function durationText(seconds) {
  if (seconds === 0) return "0";
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 2 : 0)} ms`;
  if (seconds < 60) return `${+seconds.toFixed(1)} s`;
  const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let rest = Math.round(seconds);
  return parts.map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return count ? `${count}${unit}` : "";
  }).filter(Boolean).slice(0, 2).join(" ");
}

// "3m ago" with the full time as a tooltip.
export function ago(text) {
  if (!text || text.startsWith("0001-")) return el("span", { class: "muted" }, "never");
  const date = new Date(text);
  const seconds = (Date.now() - date) / 1000;
  const words = seconds < 1 ? "just now" : `${durationText(Math.floor(seconds))} ago`;
  return el("time", { datetime: text, title: timeText(date) }, words);
}

// "1h30m" or seconds; null when it is neither.
export function parseDuration(text) {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) || null;
  const units = { y: 31536000, w: 604800, d: 86400, h: 3600, m: 60, s: 1, ms: 0.001 };
  if (!/^(\d+(ms|[ywdhms]))+$/.test(text)) return null;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[ywdhms])/g)) seconds += count * units[unit];
  return seconds || null;
}

export function formatDuration(seconds) {
  let rest = seconds;
  let text = "";
  for (const [unit, size] of [["w", 604800], ["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    if (unit === "w" && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text || `${Math.round(seconds * 1000)}ms`;
}

export const queryLink = (expr) => `query?${new URLSearchParams({ "g0.expr": expr, "g0.tab": "1" })}`;

// Loads now and every 15 seconds while the page is visible; what was shown stays when a
// load fails, with the error above it.
export function live(main, title, load) {
  const status = el("span", { class: "muted", role: "status" });
  const problem = el("div");
  const content = el("div", {}, el("p", { class: "empty" }, "Loading…"));
  const pause = el("input", { type: "checkbox", checked: true });
  const tools = el("div", { class: "bar" });
  main.replaceChildren(
    el("div", { class: "bar" }, el("h1", { class: "grow" }, title), status,
      el("label", { class: "muted" }, pause, " refresh every 15 s")),
    tools, problem, content);
  let running = false;
  const refresh = async () => {
    if (running) return;
    running = true;
    try {
      await load(content, tools);
      problem.replaceChildren();
      status.textContent = `as of ${clockText(new Date(), { hour: "2-digit", minute: "2-digit", second: "2-digit" })}`;
    } catch (error) {
      problem.replaceChildren(errorBox(error));
      if (content.querySelector(".empty")) content.replaceChildren();
    } finally {
      running = false;
    }
  };
  setInterval(() => { if (pause.checked && !document.hidden) refresh(); }, 15000);
  refresh();
  return refresh;
}

// Keeps what is open and typed when a view is drawn again.
export function redraw(content, nodes) {
  const open = new Map([...content.querySelectorAll("details[data-key]")].map((d) => [d.dataset.key, d.open]));
  content.replaceChildren(...nodes);
  for (const details of content.querySelectorAll("details[data-key]")) {
    if (open.has(details.dataset.key)) details.open = open.get(details.dataset.key);
  }
}
