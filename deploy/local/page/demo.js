// One EventSource for all cards: wrap=1 puts the channel beside each event.
const query = new URLSearchParams({ wrap: "1" });
for (const c of ["leaderboard:demo", "race-events:demo", "auction:1", "chat:demo", "billStatusChannel", "user:alice"]) query.append("channel", c);
for (const p of ["stocks:*", "game:room1:*"]) query.append("pattern", p);
const $ = (sel, root = document) => root.querySelector(sel);
const el = (tag, props = {}, ...kids) => { const e = Object.assign(document.createElement(tag), props); e.append(...kids); return e; };

let node = "", count = 0, delay = null, since = Date.now();
const source = new EventSource("/events?" + query);
const showState = () => {
  const on = source.readyState === EventSource.OPEN;
  $("#dot").classList.toggle("on", on);
  const rate = (count / Math.max(1, (Date.now() - since) / 1000)).toFixed(1);
  $("#state").textContent = on
    ? `connected to ${node || "…"} · ${count} events, ${rate} a second` + (delay === null ? "" : ` · ${delay} ms from publisher to page`)
    : "connection lost, the browser is coming back by itself…";
};
source.addEventListener("connected", e => { node = JSON.parse(e.data).node; count = 0; since = Date.now(); showState(); });
source.addEventListener("gap", e => logLine(e.lastEventId, "gap", e.data, "gap"));
source.onerror = showState;
setInterval(showState, 500);

function logLine(id, channel, text, cls = "ch") {
  const list = $("#log .events");
  list.prepend(el("li", { title: text }, el("span", { className: "id", textContent: id || "(live only)" }), " ", el("span", { className: cls, textContent: channel }), " " + text));
  while (list.children.length > 60) list.lastChild.remove();
}
function addLine(card, text) {
  const list = $(`#${card} .lines`);
  list.prepend(el("li", { textContent: text }));
  while (list.children.length > 12) list.lastChild.remove();
}
function bars(root, tag, rows, max, unit = "") {
  root.replaceChildren(...rows.map(([name, value]) => el(tag, {}, Object.assign(el("i"), { style: `width:${Math.min(100, 100 * value / max)}%` }), el("b", { textContent: name }), el("b", { textContent: value + unit }))));
}

const scores = new Map(), racers = new Map(), prices = new Map(), players = new Map();
const show = {
  leaderboard(d) {
    if (d.player !== undefined && d.score !== undefined) scores.set(d.player, d.score);
    const rows = [...scores].sort((a, b) => b[1] - a[1]).slice(0, 6);
    if (rows.length) bars($("#leaderboard .bars"), "li", rows, rows[0][1] || 1);
  },
  "race-events"(d) {
    if (d.type === "race-start") racers.clear();
    const who = d.player ?? d.playerId;
    if (who !== undefined) racers.set(who, d.progress ?? (d.checkpoint !== undefined ? d.checkpoint * 20 : racers.get(who) ?? 0));
    bars($("#race .lanes"), "div", [...racers].slice(0, 6), 100, " %");
    $("#race .last").textContent = d.type + (who !== undefined ? ` · ${who}` : "");
  },
  auction(d) {
    const amount = d.amount ?? d.price ?? d.finalPrice;
    if (amount !== undefined) $("#auction .big").textContent = amount;
    $("#auction .last").textContent = d.type + (d.bidder ? ` by ${d.bidder}` : d.winner ? `: won by ${d.winner}` : "");
  },
  stocks(d, channel) {
    const name = d.symbol ?? channel.split(":")[1], before = prices.get(name)?.[0] ?? d.price;
    prices.set(name, [d.price, d.price - before]);
    $("#stocks tbody").replaceChildren(...[...prices].sort().map(([s, [p, diff]]) => el("tr", {}, el("td", { textContent: s }), el("td", { textContent: Number(p).toFixed(2) }), el("td", { textContent: (diff >= 0 ? "▲ " : "▼ ") + Math.abs(diff).toFixed(2), className: diff >= 0 ? "up" : "down" }))));
  },
  chat(d) { addLine("chat", typeof d === "string" ? d : `${d.user ?? d.from ?? "?"}: ${d.text ?? JSON.stringify(d)}`); },
  billStatusChannel(d) { addLine("bills", `${d.billId ?? d.bill ?? "bill"}: ${d.status ?? JSON.stringify(d)}`); },
  user(d) { addLine("orders", `${d.type ?? ""} ${d.orderId ?? d.message ?? ""}`); },
  game(d, channel) {
    const id = channel.split(":")[2]; if (!id || d.x === undefined) return;
    players.set(id, [d.x, d.y]);
    $("#game svg").innerHTML = [...players].map(([p, [x, y]]) => `<circle cx="${+x % 100}" cy="${+y % 50}" r="2.2"/><text x="${+x % 100 + 3}" y="${+y % 50 + 1.5}">${p.replace(/[^\w-]/g, "")}</text>`).join("");
  },
};
source.onmessage = e => {
  const { channel, event, data } = JSON.parse(e.data);
  count++;
  const at = data && data.timestamp && Date.parse(data.timestamp);
  if (at) delay = Math.max(0, Date.now() - at);
  show[channel.split(":")[0]]?.(data ?? {}, channel);
  logLine(e.lastEventId, channel, (event ? event + " " : "") + JSON.stringify(data));
};
