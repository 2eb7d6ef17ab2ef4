import { $, bars } from "./dom.js";

// What a race event changes, and what it says in one line. Lanes show a place when
// it is final; before, it is true only until the next runner moves.
const runners = new Map();
const told = {
  "race-start"(d) {
    runners.clear();
    d.players.forEach(name => runners.set(name, { distance: 0 }));
    return `${d.raceId} starts`;
  },
  "player-update"(d) { runners.set(d.playerId, d); return `${d.playerId} is at ${d.distance} m, place ${d.place}`; },
  "checkpoint"(d) { runners.set(d.playerId, d); return `checkpoint ${d.checkpoint}: ${d.playerId}, place ${d.place}`; },
  "race-finish"(d) {
    d.ranking.forEach((name, i) => runners.set(name, { distance: 1000, place: i + 1 }));
    return `${d.raceId} is won by ${d.ranking[0]}`;
  },
};

export function race(d) {
  $("#race .last").textContent = told[d.type](d);
  bars($("#race .bars"), [...runners].map(([name, r]) =>
    ({ name, share: r.distance / 1000, value: r.distance < 1000 ? `${r.distance} m` : `place ${r.place}` })));
}
