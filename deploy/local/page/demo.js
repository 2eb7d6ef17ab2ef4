// One EventSource feeds all cards: wrap=1 puts the channel beside each event's
// data. The shapes are those of `publisher simulate all`, see publisher/*.go.
const query = new URLSearchParams({ wrap: "1" });
for (const c of ["race-events:demo", "leaderboard:demo", "auction:1", "chat:demo", "billStatusChannel", "user:alice", "game:room1"]) query.append("channel", c);
for (const p of ["stocks:*", "game:room1:*"]) query.append("pattern", p);
const source = new EventSource("/events?" + query);

const $ = selector => document.querySelector(selector);
const money = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });

// What comes is text and never markup: it may have been published by anyone.
function el(tag, text, className, ...children) {
  const e = document.createElement(tag);
  e.textContent = text ?? "";
  e.className = className ?? "";
  e.append(...children);
  return e;
}
const plain = data => typeof data === "string" ? data : JSON.stringify(data);
const tr = (...cells) => el("tr", "", "", ...cells.map(([text, className]) => el("td", text, className)));

// Bars stay the same elements, so that they glide to their new length and place.
function bars(list, rows) {
  const old = new Map([...list.children].map(li => [li.dataset.name, li]));
  rows.forEach(({ name, share, value }, i) => {
    const li = old.get(name) ?? list.appendChild(el("li", "", "", el("i"), el("span", name), el("span")));
    old.delete(name);
    li.dataset.name = name;
    li.style.setProperty("--row", i);
    li.style.setProperty("--share", share);
    li.lastChild.textContent = value;
  });
  old.forEach(li => li.remove());
}

// What a race event changes, and what it says in one line. Lanes show a place when
// it is final; before, it is true only until the next runner moves.
const runners = new Map();
const race = {
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

// One function for each first part of a channel's name.
const quotes = new Map(), bills = new Map(), pieces = new Map();
const show = {
  "race-events"(d) {
    $("#race .last").textContent = race[d.type](d);
    bars($("#race .bars"), [...runners].map(([name, r]) =>
      ({ name, share: r.distance / 1000, value: r.distance < 1000 ? `${r.distance} m` : `place ${r.place}` })));
  },
  leaderboard(d) {
    const best = d.leaderboard[0].score;
    bars($("#leaderboard .bars"), d.leaderboard.map(p => ({ name: p.playerId, share: p.score / best, value: p.score })));
    $("#leaderboard .last").textContent = d.type === "rank-change"
      ? `${d.playerId} goes from rank ${d.previousRank} to ${d.rank}`
      : `${d.playerId} scores, rank ${d.rank}`;
  },
  auction(d) {
    const sold = d.type === "auction-end";
    $("#auction .big").textContent = money.format(d.amount);
    $("#auction .big").classList.toggle("up", sold);
    $("#auction .last").textContent = sold
      ? `lot ${d.lot} sold to ${d.winner} after ${d.bids} bids`
      : `lot ${d.lot}, bid ${d.bids} by ${d.bidder}`;
    if (sold) $("#auction tbody").prepend(tr([`lot ${d.lot}`], [d.winner], [money.format(d.amount)]));
    $("#auction tbody").children[3]?.remove();
  },
  stocks(d) {
    quotes.set(d.symbol, d);
    $("#stocks tbody").replaceChildren(...[...quotes].sort().map(([symbol, q]) => {
      const [arrow, look] = q.change > 0 ? ["▲", "up"] : q.change < 0 ? ["▼", "down"] : ["=", ""];
      return tr([symbol], [q.price.toFixed(2)], [`${arrow} ${Math.abs(q.change).toFixed(2)}`, look], [q.volume]);
    }));
  },
  chat(d) {
    const list = $("#chat .lines");
    list.append(d?.text ? el("li", "", "", el("b", d.from), " " + d.text) : el("li", plain(d)));
    if (list.children.length > 12) list.firstChild.remove();
  },
  billStatusChannel(d) {
    bills.set(d.billId, d); // a known one stays where it is
    if (bills.size > 6) bills.delete(bills.keys().next().value);
    $("#bills tbody").replaceChildren(...[...bills.values()].reverse().map(b =>
      tr([b.billId], [money.format(b.amount)], [b.status, { paid: "up", rejected: "down" }[b.status]])));
  },
  user(d) {
    const list = $("#orders .lines");
    list.prepend(el("li", d.title, "", el("span", d.message)));
    list.children[4]?.remove();
  },
  game(d) {
    const room = d.type === "game-state"; // else one player's move
    for (const { playerId, x, y } of room ? d.players : [d]) {
      if (!pieces.has(playerId)) pieces.set(playerId, piece(playerId));
      pieces.get(playerId).style.transform = `translate(${2 * x}px, ${y}px)`; // a field of 100 × 100, drawn wide
    }
    $("#game .last").textContent = room ? `${d.players.length} players, ${d.moves} moves` : `${d.playerId} moves to ${d.x}, ${d.y}`;
  },
};
function piece(name) {
  const [g, circle, text] = ["g", "circle", "text"].map(tag => document.createElementNS("http://www.w3.org/2000/svg", tag));
  circle.setAttribute("r", 4);
  text.textContent = name;
  g.append(circle, text);
  return $("#game svg").appendChild(g);
}

let node = "", since = 0, recent = [], lastId = "", waiting = [];
source.addEventListener("connected", e => { node = JSON.parse(e.data).node; since = Date.now(); recent = []; state(); });
source.addEventListener("gap", e => note(e, "gap", e.data, "gap"));
source.onerror = () => { node = ""; state(); };
source.onmessage = e => {
  const { channel, event, data } = JSON.parse(e.data);
  recent.push({ at: Date.now(), sent: Date.parse(data?.timestamp) });
  note(e, channel, (event ? event + " " : "") + plain(data));
  // Simulations number their messages. What is sent by hand is for the log, and the chat.
  if (data?.seq || channel === "chat:demo") show[channel.split(":")[0]](data);
};
function note(e, channel, text, className) {
  // The browser repeats the last id on events that have none of their own.
  const id = e.lastEventId === lastId ? "live only" : lastId = e.lastEventId;
  text = text.length > 400 ? text.slice(0, 400) + "…" : text;
  const li = el("li", "", className, el("span", id), el("span", channel), el("span", text));
  li.title = text;
  waiting = [li, ...waiting].slice(0, 60);
}

// Numbers and log change twice a second: with every event they would flicker.
function state() {
  recent = recent.filter(r => r.at > Date.now() - 5000);
  const delays = recent.map(r => Math.max(0, r.at - r.sent)).filter(ms => ms >= 0).sort((a, b) => a - b);
  const rate = recent.length / Math.min(5, Math.max(1, (Date.now() - since) / 1000));
  $("#state").classList.toggle("on", node !== "");
  $("#state").textContent = node
    ? `connected to ${node} · ${rate.toFixed(0)} events per second`
      + (delays.length ? ` · ${delays[delays.length >> 1]} ms from publisher to page` : "")
    : source.readyState === EventSource.CLOSED ? "the server refused the stream, reload the page to try again"
    : since ? "connection lost, the browser is coming back by itself…" : "connecting…";
  const list = $("#log .events");
  if (list.matches(":hover, :focus-visible")) return;
  list.prepend(...waiting.splice(0));
  while (list.children.length > 60) list.lastChild.remove();
}
setInterval(state, 500);
