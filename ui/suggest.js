// Metric names under the expression while one is being typed.

import { api, el } from "./lib.js";

const SHOWN = 30;

export function suggest(input) {
  const list = el("ul", { role: "listbox", id: "suggestions", hidden: true });
  const holder = el("div", { class: "suggest" }, input, list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false" })) input.setAttribute(name, value);
  let names;
  let selected = -1;

  const hide = () => {
    list.hidden = true;
    selected = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const word = () => /[a-zA-Z_:][\w:]*$/.exec(input.value.slice(0, input.selectionStart))?.[0] ?? "";
  // Inside quotes, braces or brackets no metric name stands.
  const inName = () => {
    const before = input.value.slice(0, input.selectionStart);
    return (before.match(/"/g) ?? []).length % 2 === 0 && before.lastIndexOf("{") <= before.lastIndexOf("}") && before.lastIndexOf("[") <= before.lastIndexOf("]");
  };
  const take = (name) => {
    const end = input.selectionStart;
    const start = end - word().length;
    input.setRangeText(name, start, end, "end");
    hide();
    input.focus();
  };
  const mark = (index) => {
    selected = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === index)));
    const item = list.children[index];
    if (item) {
      item.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", item.id);
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };
  const show = async () => {
    const typed = word();
    if (typed.length < 2 || !inName()) return hide();
    // Fetched once, when first needed; without an answer there are no suggestions.
    names ??= api("label/__name__/values", { limit: 20000 }).then((answer) => answer.data, () => []);
    const all = await names;
    if (typed !== word()) return undefined;
    const lower = typed.toLowerCase();
    const starts = all.filter((name) => name.toLowerCase().startsWith(lower));
    const inside = all.filter((name) => !name.toLowerCase().startsWith(lower) && name.toLowerCase().includes(lower));
    const found = [...starts, ...inside].filter((name) => name !== typed).slice(0, SHOWN);
    if (!found.length) return hide();
    list.replaceChildren(...found.map((name, i) => el("li", { role: "option", id: `suggestion-${i}`, "aria-selected": "false", onmousedown: (event) => { event.preventDefault(); take(name); } }, name)));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(-1);
    return undefined;
  };
  input.addEventListener("input", show);
  input.addEventListener("blur", hide);
  input.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const last = list.children.length - 1;
    if (event.key === "ArrowDown") mark(selected >= last ? 0 : selected + 1);
    else if (event.key === "ArrowUp") mark(selected <= 0 ? last : selected - 1);
    else if (event.key === "Escape") hide();
    else if ((event.key === "Enter" || event.key === "Tab") && selected >= 0) take(list.children[selected].textContent);
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
  return holder;
}
