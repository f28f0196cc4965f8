// A line chart on a canvas: time axis, values, gaps, a readout under the pointer, a legend
// that switches series off, zoom by dragging.

import { clockText, el, metric, metricText, timeText } from "./lib.js";

const MARGIN = { left: 64, right: 14, top: 12, bottom: 30 };
const COLORS = ["#1f77c9", "#e8710a", "#22913f", "#d23c3c", "#8a5cd0", "#0a9ba6", "#c2489b", "#8c7a00", "#6b7684", "#5f6fd8"];

export function color(index) {
  return index < COLORS.length ? COLORS[index] : `hsl(${(index * 137.508) % 360} 62% 52%)`;
}

export function chart(series, { start, end, step, zoomTo }) {
  const lines = series.map((one, index) => ({
    labels: one.metric,
    color: color(index),
    on: true,
    points: (one.values ?? []).map(([time, value]) => [time, Number(value.replace("Inf", "Infinity"))]),
  }));
  const canvas = el("canvas", { role: "img", tabindex: "0", "aria-label": description(lines, start, end) });
  const tip = el("div", { class: "tip", hidden: true });
  const holder = el("div", { class: "chart" }, canvas, tip);
  const legend = el("ul", { class: "legend", "aria-label": "Series" });
  let pointer = null;
  let drag = null;
  let frame = null;

  const draw = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      paint();
    });
  };

  function geometry() {
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const inner = { width: Math.max(width - MARGIN.left - MARGIN.right, 10), height: height - MARGIN.top - MARGIN.bottom };
    let low = Infinity;
    let high = -Infinity;
    for (const line of lines) {
      if (!line.on) continue;
      for (const [, value] of line.points) {
        if (!Number.isFinite(value)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (low > high) [low, high] = [0, 1];
    if (low === high) [low, high] = low === 0 ? [-1, 1] : [Math.min(low, 0), Math.max(high, 0)];
    // A little air, but no negative axis for values that are never negative.
    const air = (high - low) * 0.06;
    high = high <= 0 && high + air > 0 ? 0 : high + air;
    low = low >= 0 && low - air < 0 ? 0 : low - air;
    return {
      width, height, inner, low, high,
      x: (time) => MARGIN.left + ((time - start) / (end - start)) * inner.width,
      y: (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height,
      time: (x) => start + ((x - MARGIN.left) / inner.width) * (end - start),
    };
  }

  function paint() {
    const g = geometry();
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(g.width * ratio);
    canvas.height = Math.round(g.height * ratio);
    const cx = canvas.getContext("2d");
    cx.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    cx.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    cx.lineWidth = 1;
    axes(cx, g, ink);
    cx.save();
    cx.beginPath();
    cx.rect(MARGIN.left, MARGIN.top - 2, g.inner.width, g.inner.height + 4);
    cx.clip();
    for (const line of lines) if (line.on) stroke(cx, g, line);
    cx.restore();
    if (drag) {
      cx.fillStyle = ink("--accent");
      cx.globalAlpha = 0.18;
      cx.fillRect(Math.min(drag.from, drag.to), MARGIN.top, Math.abs(drag.to - drag.from), g.inner.height);
      cx.globalAlpha = 1;
    }
    readout(cx, g, ink);
  }

  function axes(cx, g, ink) {
    const values = valueTicks(g.low, g.high, Math.max(2, Math.floor(g.inner.height / 60)));
    cx.textAlign = "right";
    cx.textBaseline = "middle";
    for (const value of values) {
      const y = Math.round(g.y(value)) + 0.5;
      cx.strokeStyle = ink("--grid");
      cx.beginPath();
      cx.moveTo(MARGIN.left, y);
      cx.lineTo(MARGIN.left + g.inner.width, y);
      cx.stroke();
      cx.fillStyle = ink("--muted");
      cx.fillText(short(value), MARGIN.left - 8, y);
    }
    cx.textAlign = "center";
    cx.textBaseline = "top";
    for (const { time, text } of timeTicks(start, end, Math.max(2, Math.floor(g.inner.width / 110)))) {
      const x = Math.round(g.x(time)) + 0.5;
      cx.strokeStyle = ink("--grid");
      cx.beginPath();
      cx.moveTo(x, MARGIN.top);
      cx.lineTo(x, MARGIN.top + g.inner.height + 4);
      cx.stroke();
      cx.fillStyle = ink("--muted");
      const half = cx.measureText(text).width / 2;
      cx.fillText(text, Math.min(Math.max(x, half + 2), g.width - half - 2), MARGIN.top + g.inner.height + 9);
    }
  }

  // A missing step is a gap, and a point alone is a dot: lines never invent data.
  function stroke(cx, g, line) {
    cx.strokeStyle = line.color;
    cx.fillStyle = line.color;
    cx.lineWidth = line.hover ? 2.6 : 1.5;
    cx.lineJoin = "round";
    let before = null;
    let run = 0;
    cx.beginPath();
    const dots = [];
    line.points.forEach(([time, value], i) => {
      if (!Number.isFinite(value)) { before = null; run = 0; return; }
      const [x, y] = [g.x(time), g.y(value)];
      if (before != null && time - before <= step * 1.5) { cx.lineTo(x, y); run += 1; } else { cx.moveTo(x, y); run = 1; }
      const next = line.points[i + 1];
      const alone = run === 1 && !(next && Number.isFinite(next[1]) && next[0] - time <= step * 1.5);
      if (alone) dots.push([x, y]);
      before = time;
    });
    cx.stroke();
    for (const [x, y] of dots) {
      cx.beginPath();
      cx.arc(x, y, 2.2, 0, 7);
      cx.fill();
    }
  }

  function readout(cx, g, ink) {
    tip.hidden = true;
    if (!pointer || drag) return;
    const wanted = g.time(pointer.x);
    let best = null;
    for (const line of lines) {
      if (!line.on) continue;
      const point = nearest(line.points, wanted);
      if (!point || !Number.isFinite(point[1]) || Math.abs(point[0] - wanted) > Math.max(step * 1.5, (end - start) / 100)) continue;
      const distance = Math.abs(g.y(point[1]) - pointer.y);
      if (!best || distance < best.distance) best = { line, point, distance };
    }
    if (!best) return;
    const [x, y] = [g.x(best.point[0]), g.y(best.point[1])];
    cx.strokeStyle = ink("--muted");
    cx.lineWidth = 1;
    cx.setLineDash([3, 3]);
    cx.beginPath();
    cx.moveTo(x, MARGIN.top);
    cx.lineTo(x, MARGIN.top + g.inner.height);
    cx.stroke();
    cx.setLineDash([]);
    cx.fillStyle = best.line.color;
    cx.beginPath();
    cx.arc(x, y, 4, 0, 7);
    cx.fill();
    const swatch = el("span", { class: "swatch" });
    swatch.style.cssText = `background:${best.line.color};display:inline-block;margin-right:6px;vertical-align:middle`;
    tip.replaceChildren(
      el("div", { class: "muted" }, timeText(new Date(best.point[0] * 1000))),
      el("div", {}, swatch, el("strong", { class: "mono" }, String(best.point[1]))),
      el("div", {}, metric(best.line.labels)));
    tip.hidden = false;
    const left = x + 14 + tip.offsetWidth > g.width ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.max(0, Math.min(y - 20, g.height - tip.offsetHeight))}px`;
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointermove", (event) => {
    pointer = place(event);
    if (drag) drag.to = pointer.x;
    draw();
  });
  canvas.addEventListener("pointerleave", () => { pointer = null; draw(); });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const { x } = place(event);
    drag = { from: x, to: x };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done && Math.abs(done.to - done.from) > 8) {
      const g = geometry();
      const [from, to] = [g.time(Math.min(done.from, done.to)), g.time(Math.max(done.from, done.to))];
      zoomTo(Math.max(from, start), Math.min(to, end));
    }
    draw();
  });
  // The readout moves with the arrow keys too.
  canvas.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const g = geometry();
    const x = pointer?.x ?? g.x(end);
    const next = x + (direction * g.inner.width * step) / (end - start);
    pointer = { x: Math.min(Math.max(next, MARGIN.left), MARGIN.left + g.inner.width), y: pointer?.y ?? g.height / 2 };
    draw();
  });
  canvas.addEventListener("blur", () => { pointer = null; draw(); });

  for (const line of lines) {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = line.color;
    const last = line.points.at(-1)?.[1];
    const button = el("button", { type: "button", "aria-pressed": "true", title: "Click: show or hide. Ctrl+click: only this one.",
      onmouseenter: () => { line.hover = true; draw(); },
      onmouseleave: () => { line.hover = false; draw(); },
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey) {
          const alone = lines.every((other) => other.on === (other === line));
          for (const other of lines) other.on = alone || other === line;
        } else line.on = !line.on;
        for (const other of lines) other.button.setAttribute("aria-pressed", String(other.on));
        draw();
      } }, swatch, metric(line.labels), el("span", { class: "last" }, last == null ? "" : short(last)));
    line.button = button;
    legend.append(el("li", {}, button));
  }
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  return el("div", {}, holder, legend);
}

function description(lines, start, end) {
  const named = lines.slice(0, 3).map((line) => metricText(line.labels)).join("; ");
  return `Line chart of ${lines.length} series from ${timeText(new Date(start * 1000))} to ${timeText(new Date(end * 1000))}: ${named}${lines.length > 3 ? "; and others" : ""}`;
}

function nearest(points, time) {
  let [low, high] = [0, points.length - 1];
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < time) low = middle + 1; else high = middle;
  }
  const [after, before] = [points[low], points[low - 1]];
  return before && Math.abs(before[0] - time) < Math.abs(after[0] - time) ? before : after;
}

export function valueTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const width = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((w) => w >= raw) ?? raw;
  const ticks = [];
  for (let i = Math.ceil(low / width - 1e-9); i * width <= high * (1 + 1e-12); i += 1) {
    if (ticks.length > 100) break;
    ticks.push(i * width);
  }
  return ticks;
}

// Ticks at round times of the shown zone.
export function timeTicks(start, end, count) {
  const widths = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];
  const width = widths.find((w) => (end - start) / w <= count) ?? widths.at(-1);
  const hour = Number(clockText(new Date(start * 1000), { hour: "2-digit", hour12: false }).slice(0, 2));
  const minute = Number(clockText(new Date(start * 1000), { minute: "2-digit" }));
  const utcMinutes = new Date(start * 1000).getUTCHours() * 60 + new Date(start * 1000).getUTCMinutes();
  const offset = ((hour * 60 + minute - utcMinutes + 1440) % 1440) * 60;
  const format = width < 60 ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
    : width < 86400 ? { hour: "2-digit", minute: "2-digit" } : { month: "2-digit", day: "2-digit" };
  const ticks = [];
  for (let time = Math.ceil((start + offset) / width) * width - offset; time <= end; time += width) {
    const date = new Date(time * 1000);
    let text = clockText(date, format);
    if (width < 86400 && end - start > 86400 && clockText(date, { hour: "2-digit", minute: "2-digit" }) === "00:00") {
      text = clockText(date, { month: "2-digit", day: "2-digit" });
    }
    ticks.push({ time, text });
  }
  return ticks;
}

export function short(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "Inf");
  const abs = Math.abs(value);
  if (abs !== 0 && (abs < 1e-4 || abs >= 1e15)) return value.toExponential(2);
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (abs >= size) return `${+(value / size).toPrecision(4)}${unit}`;
  }
  return String(+value.toPrecision(4));
}
