// What the page does: one Sluice, which all its tabs share, feeds the cards. The shapes are
// those of `publisher simulate all`, see publisher/*.go.
import { Sluice } from "/sluice.js";
import { alert } from "./alerts.js";
import { auction } from "./auction.js";
import { billStatus } from "./bills.js";
import { startChannels } from "./channels.js";
import { chat, startChat } from "./chat.js";
import { dashboard } from "./dashboard.js";
import { $, el, plain } from "./dom.js";
import { game } from "./game.js";
import { item } from "./items.js";
import { job } from "./jobs.js";
import { leaderboard } from "./leaderboard.js";
import { log, showLog } from "./log.js";
import { Meter } from "./meter.js";
import { news } from "./news.js";
import { notice, startNotices } from "./notices.js";
import { startOrders, token } from "./orders.js";
import { startPresence } from "./presence.js";
import { race } from "./race.js";
import { startService } from "./service.js";
import { stocks } from "./stocks.js";
import { startWorkers } from "./workers.js";

// One function for each first part of a channel's name, and the channel of its card.
const show = { "race-events": race, leaderboard, auction, stocks, chat, billStatusChannel: billStatus, game,
  news, jobs: job, dashboard, alerts: alert, updates: alert, trivia: alert, items: item, notices: notice };
const shown = /^(race-events:demo|leaderboard:demo|auction:1|stocks:.*|chat:demo|billStatusChannel|game:room1(:.*)?|news:.*|jobs:.*|(dashboard|alerts|updates|trivia|items):demo|notices)$/;
const mostBreaks = 5;

const info = await (await fetch("/demo/workers")).json();
const meter = new Meter(interruption);

// Channels that come and go on an open connection are its bearer's to change, so
// where tokens count each browser is a guest with a name.
const guest = localStorage.guest ??= `guest-${Math.random().toString(36).slice(2, 6)}`;
const guestToken = info.signIn && info.controls ? () => token(guest) : undefined;
const sluice = new Sluice({
  token: guestToken,
  initial: 8,
  onStatus: s => {
    meter.status(s);
    state();
    look();
  },
  onGap: g => {
    meter.gap(g);
    log(g.to, "gap", `${g.reason}: ${[...g.channels, ...g.patterns].join(", ")}`, "gap");
  },
  onError: e => log("", e.channel, e.message, "gap"),
});
const look = startWorkers(info, () => sluice.status.node ?? "", what => meter.expect(what));
startChannels(sluice, heard, name => meter.forget(name));
startChat();
startNotices(info);
startService(sluice, count);
startPresence(guestToken, () => sluice.status.clientId);
startOrders(info, count);

function heard(e) {
  count(e);
  // Simulations number their messages. What is sent by hand is for the log, and the chat.
  if (shown.test(e.channel) && (e.data?.seq || e.channel === "chat:demo")) show[e.channel.split(":")[0]](e.data, e.event);
}

function count(e) {
  meter.event(e);
  log(e.id, e.channel, (e.event ? e.event + " " : "") + plain(e.data));
}

// An interruption that is over: what it was, and what it has cost.
function interruption({ at, what, ms, late, from, to, lost, twice, again, gaps }) {
  const list = $("#breaks"), bad = lost + twice > 0;
  const names = [...new Set(gaps.flatMap(g => [...g.channels, ...g.patterns]))];
  const text = [
    from && to && from !== to ? `${from} → ${to}` : to,
    `${(ms / 1000).toFixed(1)} s without events`,
    `${late} made up for`,
    bad ? `${lost} lost, ${twice} twice` : "nothing lost",
    again ? `${again} came again` : "",
    names.length ? `gap told for ${names.join(", ")}` : "",
  ].filter(s => s).join(" · ");
  list.prepend(el("li", "", bad ? "bad" : "good", el("time", at.toLocaleTimeString("en-GB")), el("b", what), el("span", text)));
  list.querySelector(".soft")?.remove();
  while (list.children.length > mostBreaks) list.lastChild.remove();
}

// Numbers and log change twice a second: with every event they would flicker.
function state() {
  const { state, node, error, retryIn } = sluice.status, { rate, delay, broken } = meter.now();
  $("#state").classList.toggle("on", state === "open");
  document.body.classList.toggle("flowing", state === "open" && rate > 0 && !broken);
  $("#state").textContent = state === "open" ? `connected to ${node ?? "a node"}, ${rate.toFixed(0)} events per second`
    : state === "closed" ? `closed: ${error?.message ?? "reload the page"}`
    : state === "idle" ? "no channel is picked"
    : error ? `connection lost, it comes back by itself${retryIn ? ` in ${(retryIn / 1000).toFixed(1)} s` : ""}…` : "connecting…";
  const figures = {
    node: node ?? "…", "last-id": meter.lastId || "…", events: meter.count.toLocaleString("en"), latency: delay === undefined ? "…" : `${delay} ms`,
    checked: meter.checked.toLocaleString("en"), lost: meter.lost + (meter.twice ? `, ${meter.twice} twice` : ""), gaps: meter.gaps.length,
  };
  for (const id in figures) $(`#${id}`).textContent = figures[id];
  $("#lost").className = meter.lost + meter.twice ? "down" : "";
  const gap = meter.gaps.at(-1);
  $("#gaps").title = gap ? `the last one: ${gap.reason}, ${[...gap.channels, ...gap.patterns].join(", ")}` : "";
  showLog();
}
setInterval(state, 500);
