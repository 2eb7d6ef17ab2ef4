import { $, svg } from "./dom.js";

// Where it is drawn, and how much larger than the field of 100 × 100 at most.
const width = 200, height = 100, closest = 8;
const pieces = new Map();

export function game(d) {
  const room = d.type === "game-state"; // else one player's move
  for (const { playerId, x, y } of room ? d.players : [d]) {
    if (!pieces.has(playerId)) pieces.set(playerId, { g: piece(playerId) });
    Object.assign(pieces.get(playerId), { x, y });
  }
  view();
  $("#game .last").textContent = room ? `${d.players.length} players, ${d.moves} moves` : `${d.playerId} moves to ${d.x}, ${d.y}`;
}

// The view is as near as shows them all.
function view() {
  const all = [...pieces.values()], range = by => [Math.min(...all.map(by)), Math.max(...all.map(by))];
  const [left, right] = range(p => p.x), [top, bottom] = range(p => p.y);
  const zoom = Math.min(closest, width / Math.max(1, right - left), height / Math.max(1, bottom - top));
  sides(all);
  for (const { g, x, y } of all)
    g.style.transform = `translate(${width / 2 + zoom * (x - (left + right) / 2)}px, ${height / 2 + zoom * (y - (top + bottom) / 2)}px)`;
}

// The uppermost has its name above it, the lowest below, those between on the left and
// on the right: so no name is upon another's when they are close.
function sides(all) {
  const [first, ...rest] = all.toSorted((a, b) => a.y - b.y), last = rest.pop();
  first.g.setAttribute("class", "above");
  last?.g.setAttribute("class", "below");
  rest.sort((a, b) => a.x - b.x).forEach(({ g }, i) => g.setAttribute("class", i < rest.length / 2 ? "left" : "right"));
}

function piece(name) {
  const g = svg("g"), text = svg("text");
  text.textContent = name;
  g.append(svg("circle", { r: 4 }), text);
  return $("#game svg").appendChild(g);
}
