import { $, tr } from "./dom.js";

// Three channels of one place, by how urgent they are.
const kinds = new Map([["alert", "urgent"], ["update", "normal"], ["trivia", "can wait"]].map(([kind, name]) => [kind, { name, text: "", count: 0 }]));

export function alert(d) {
  const kind = kinds.get(d.type);
  kind.text = d.text;
  kind.count++;
  $("#alerts tbody").replaceChildren(...[...kinds.values()].map(k => tr([k.name, k.name === "urgent" ? "down" : "soft"], [k.text || "…"], [k.count])));
}
