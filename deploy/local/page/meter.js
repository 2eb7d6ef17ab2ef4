// The meter looks at every event: whether its number is the next of its channel, how
// long it was under way, and what an interruption has cost. Simulations number their
// messages and give them a time.

const partial = new Set(["notices"]); // some of it is for others, and has numbers, too
const window5 = 5000; // ms that rate and latency are about
const standstill = 700; // ms after which an event that comes was held up
const patience = 10000; // ms in which what was killed may have an effect
const settle = 4000; // ms after which an interruption without further events is over

export class Meter {
  count = 0;
  checked = 0;
  lost = 0;
  twice = 0;
  again = 0; // twice, but as it may be
  gaps = [];
  lastId = "";
  #seqs = new Map(); // the last number of each channel
  #kept = new Set(); // channels with a history
  #unsure = new Map(); // of a channel the first number that may come again
  #recent = [];
  #last = 0; // when the last event came
  #since = Date.now();
  #open = false;
  #node = "";
  #break; // the interruption that is under way
  #cause; // what somebody has just killed

  // told is called with each interruption that is over.
  constructor(told) { this.told = told; }

  // expect says why an interruption may come, or has come.
  expect(what) {
    if (this.#break) this.#break.what = what;
    else this.#cause = { what, until: Date.now() + patience };
  }

  event(e) {
    const now = Date.now(), sent = Date.parse(e.data?.timestamp);
    this.count++;
    if (e.id) this.lastId = e.id;
    this.#check(e);
    const kept = this.#kept.has(e.channel);
    if (kept && sent) this.#interruption(now, sent);
    // What comes first is what was before, what was made up for is late for a reason.
    const fresh = sent && !this.#break && (kept || now - sent < standstill);
    this.#recent.push({ now, ms: fresh ? Math.max(0, now - sent) : undefined });
    if (kept) this.#last = now;
  }

  #check({ channel, data, id }) {
    const seq = data?.seq;
    if (!Number.isInteger(seq) || partial.has(channel)) return;
    const before = this.#seqs.get(channel);
    if (before !== undefined && seq <= before) {
      if (seq >= this.#unsure.get(channel)) this.again++;
      else if (id) this.twice++;
      return;
    }
    // What came without an id may come again on another connection, until a later id.
    if (id) this.#unsure.clear();
    else if (!this.#unsure.has(channel)) this.#unsure.set(channel, seq);
    this.#seqs.set(channel, seq);
    // A channel that never has ids is live only: nobody promises all of it.
    if (id) this.#kept.add(channel);
    if (!this.#kept.has(channel)) return;
    this.checked++;
    if (before !== undefined) this.lost += seq - before - 1;
  }

  #interruption(now, sent) {
    if (!this.#break && this.#open && this.#last && now - sent > standstill && now - this.#last > standstill) this.#begin(this.#last, "events stood still");
    const b = this.#break;
    if (!b || !this.#open) return;
    b.back ??= now;
    // What was published before it was over has been made up for.
    if (sent < b.back) b.late++;
    else this.#end();
  }

  #begin(from, what) {
    const cause = this.#cause?.until > Date.now() ? this.#cause.what : "";
    this.#cause = undefined;
    this.#break = { from, what: cause || what, node: this.#node, late: 0, lost: this.lost, twice: this.twice, again: this.again };
  }

  #end() {
    const b = this.#break;
    this.#break = undefined;
    this.told({
      at: new Date(b.from), what: b.what, ms: (b.back ?? Date.now()) - b.from, late: b.late,
      from: b.node, to: this.#node, lost: this.lost - b.lost, twice: this.twice - b.twice, again: this.again - b.again, gaps: this.gaps.filter(g => g.at >= b.from),
    });
  }

  status({ state, node, error }) {
    const open = state === "open";
    // Without an error it connects anew for other channels.
    if (!this.#break && this.#last && error) this.#begin(Date.now(), "the connection was lost");
    if (open) this.#node = node ?? "";
    if (open && this.#break) this.#break.back ??= Date.now();
    this.#open = open;
  }

  // gap is told where events may be missing; what follows is counted anew.
  gap(g) {
    this.gaps.push({ ...g, at: Date.now() });
    for (const c of g.channels) this.#seqs.delete(c);
    for (const p of g.patterns) this.forget(p);
  }

  // forget is for channels that are not listened to any more.
  forget(name) {
    const begin = name.replace(/[*>].*$/s, "");
    for (const c of [...this.#seqs.keys()]) if (c === name || begin !== name && c.startsWith(begin)) {
      this.#seqs.delete(c);
      this.#kept.delete(c);
    }
  }

  // now is the rate, per second, and the median of the delays, in ms.
  now() {
    const now = Date.now();
    if (this.#break && this.#open && now - this.#break.back > settle) this.#end();
    this.#recent = this.#recent.filter(r => r.now > now - window5);
    const delays = this.#recent.map(r => r.ms).filter(ms => ms !== undefined).sort((a, b) => a - b);
    return { rate: this.#recent.length / Math.min(5, Math.max(1, (now - this.#since) / 1000)), delay: delays[delays.length >> 1], broken: !!this.#break };
  }
}
