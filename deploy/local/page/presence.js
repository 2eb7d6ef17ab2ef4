import { $, tr } from "./dom.js";

const every = 2000, most = 3; // ms between two looks, lines

// Who is connected, on which node, since when: everybody who is on the broadcast
// channel. The nodes say it to whose token has presence:true; without tokens they
// say how many.
export async function startPresence(token, me) {
  const pause = ms => new Promise(done => setTimeout(done, ms));
  while (!me()) await pause(every / 10);
  for (;; await pause(every)) if (!document.hidden) await look(token, me).catch(() => {}); // there is a next time
}

async function look(token, me) {
  const headers = token && { Authorization: `Bearer ${await token()}` };
  const answer = await fetch("/presence?channel=sse:broadcast", { headers, signal: AbortSignal.timeout(every) });
  const { count, clients = [], error } = await answer.json();
  const mine = c => c.clientId === me();
  $("#presence .last").textContent = error ?? `${count} ${count === 1 ? "connection" : "connections"} on all nodes`;
  $("#presence tbody").replaceChildren(...clients.sort((a, b) => mine(b) - mine(a) || b.connectedAt.localeCompare(a.connectedAt)).slice(0, most).map(c =>
    tr([c.subject ?? c.clientId, mine(c) ? "up" : ""], [c.node], [new Date(c.connectedAt).toLocaleTimeString("en-GB")])));
}
