import { $, svg, tr } from "./dom.js";

const most = 40; // prices in a line
const quotes = new Map();

export function stocks(d) {
  const prices = [...(quotes.get(d.symbol)?.prices ?? []), d.price].slice(-most);
  quotes.set(d.symbol, { ...d, prices });
  $("#stocks tbody").replaceChildren(...[...quotes].sort().map(([symbol, q]) => {
    const [arrow, look] = q.change > 0 ? ["▲", "up"] : q.change < 0 ? ["▼", "down"] : ["=", ""];
    return tr([symbol], [q.price.toFixed(2)], [`${arrow} ${Math.abs(q.change).toFixed(2)}`, look], [line(symbol, q.prices), look]);
  }));
}

// line is a chart of the last prices, between the lowest and the highest of them.
function line(symbol, prices) {
  const low = Math.min(...prices), high = Math.max(...prices);
  const chart = svg("svg", { viewBox: "0 0 80 24", class: "line", role: "img", "aria-label": `the last prices of ${symbol}` });
  chart.append(svg("polyline", { points: prices.map((p, i) => `${80 - 2 * (prices.length - 1 - i)},${22 - 20 * (high > low ? (p - low) / (high - low) : 0.5)}`).join(" ") }));
  return chart;
}
