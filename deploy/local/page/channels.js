import { $, el } from "./dom.js";

const offered = ["race-events:demo", "leaderboard:demo", "auction:1", "stocks:*", "chat:demo", "billStatusChannel", "game:room1", "game:room1:*",
  "news:*", "jobs:*", "dashboard:demo", "alerts:demo", "updates:demo", "trivia:demo", "items:demo", "notices", "race-events:demo-2", "leaderboard:demo-2", "auction:2"];
const first = 16; // of these are picked at the beginning

// Channels are those that the page listens to: pressed buttons. A name with a wildcard
// is a pattern.
export function startChannels(sluice, listener, forget) {
  const ends = new Map();
  function set(name, button, on) {
    button.setAttribute("aria-pressed", on);
    for (const card of document.querySelectorAll("[data-pick]")) if (card.dataset.pick === name) card.classList.toggle("off", !on);
    if (on === ends.has(name)) return;
    if (on) return ends.set(name, /(^|:)(\*|>$)/.test(name) ? sluice.subscribePattern(name, listener) : sluice.subscribe(name, listener));
    ends.get(name)();
    ends.delete(name);
    forget(name);
  }
  function offer(name, on) {
    let button = [...$("#picks").children].find(b => b.textContent === name);
    if (!button) {
      button = $("#picks").appendChild(el("button", name));
      button.type = "button";
      button.onclick = () => set(name, button, !ends.has(name));
    }
    set(name, button, on);
  }
  offered.forEach((name, i) => offer(name, i < first));
  $("#add").onsubmit = e => {
    e.preventDefault();
    offer($("#another").value, true);
    $("#another").value = "";
  };
  return () => [...ends.keys()];
}
