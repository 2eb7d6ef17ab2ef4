// What all cards are made of. What comes is text and never markup: it may have been
// published by anyone.
const mostLines = 4;

export const $ = selector => document.querySelector(selector);

export function el(tag, text, className, ...children) {
  const e = document.createElement(tag);
  e.textContent = text ?? "";
  e.className = className ?? "";
  e.append(...children);
  return e;
}

export function svg(tag, attributes = {}) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) e.setAttribute(name, attributes[name]);
  return e;
}

export const tr = (...cells) => el("tr", "", "", ...cells.map(([content, className]) =>
  content instanceof Node ? el("td", "", className, content) : el("td", content, className)));

export const plain = data => typeof data === "string" ? data : JSON.stringify(data);

// line puts one at the top of a list: who or what it is about, and what it says.
export function line(list, about, text) {
  list.prepend(el("li", "", "", el("b", about), " " + text));
  list.children[mostLines]?.remove();
}

export const money = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });

// Bars stay the same elements, so that they glide to their new length and place.
export function bars(list, rows) {
  const old = new Map([...list.children].map(li => [li.dataset.name, li]));
  rows.forEach(({ name, share, value, key = name }, i) => {
    const li = old.get(key) ?? list.appendChild(el("li", "", "", el("i"), el("span"), el("span")));
    old.delete(key);
    li.dataset.name = key;
    li.children[1].textContent = name;
    li.style.setProperty("--row", i);
    li.style.setProperty("--share", share);
    li.lastChild.textContent = value;
  });
  old.forEach(li => li.remove());
}

// post sends JSON and returns the answer, also one that is a refusal.
export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  return { status: answer.status, ...await answer.json().catch(() => ({ error: answer.statusText })) };
}
