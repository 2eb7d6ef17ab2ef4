import { $, bars } from "./dom.js";

const most = 3, full = 100; // bars; pieces that fill one
const items = new Map(); // those that are known: who comes later has not heard of all
const told = { "item-added": "comes", "item-changed": "changes", "item-removed": "goes" };

export function item(d, event) {
  if (event === "item-removed") items.delete(d.itemId);
  else items.set(d.itemId, d.quantity);
  $("#items .last").textContent = `${d.itemId} ${told[event]}`;
  bars($("#items .bars"), [...items].sort(([, a], [, b]) => b - a).slice(0, most)
    .map(([name, quantity]) => ({ name, share: quantity / full, value: `${quantity} pieces` })));
}
