import { $, el } from "./dom.js";

const most = 60;
let waiting = [];

export function log(id, channel, text, className) {
  text = text.length > 400 ? text.slice(0, 400) + "…" : text;
  const li = el("li", "", className, el("span", id ?? "no id"), el("span", channel), el("span", text));
  li.title = text;
  waiting = [li, ...waiting].slice(0, most);
}

// With every event it would flicker. It stands still for who points at it.
export function showLog() {
  const list = $("#log .events");
  if (list.matches(":hover, :focus-visible")) return;
  list.prepend(...waiting.splice(0));
  while (list.children.length > most) list.lastChild.remove();
}
