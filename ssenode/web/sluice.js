// Sluice in a page: events of many channels over one connection, which all tabs
// of an origin share. Types: sluice.d.ts. Guide: ssenode/web/README.md.
//
// Streams are read with fetch: an EventSource hides positions without an event,
// heartbeats and statuses, and sends a token only in the address.

// Milliseconds: for an answer, and for the first bytes of a stream; between two
// attempts, before jitter; of polling before a stream is tried again.
const answerTime = 10e3;
const longestDelay = 30e3;
const pollTime = 60e3;
const longestPollTime = 600e3;
// Events held for a listener that waits for its initial ones.
const mostHeld = 1000;
// Changes of channels at once; more are a new connection.
const mostPosts = 8;

const pause = ms => new Promise(done => setTimeout(done, ms));

// order is below 0 if id a comes before id b, NaN if that cannot be told.
function order(a, b) {
  const [epoch, seq] = (a ?? "").split("-"), [other, than] = (b ?? "").split("-");
  return epoch === other ? seq - than : NaN;
}

// A key is "c" and a channel, or "p" and a pattern.
function matcher(key) {
  const name = key.slice(1);
  if (key[0] === "c") return channel => channel === name;
  const segments = name.split(":").map((s, i, all) => s === "*" ? "[^:]*" : s === ">" && i === all.length - 1 ? ".*"
    : decodeURIComponent(s).replace(/[^\w\s]/g, "\\$&"));
  const regexp = new RegExp(`^${segments.join(":")}$`, "s");
  return channel => regexp.test(channel);
}

function gapOf(keys, reason) {
  const names = kind => [...keys].filter(key => key[0] === kind).map(key => key.slice(1));
  return { channels: names("c"), patterns: names("p"), reason, from: null, to: null };
}

// parser returns a function that takes text as it comes, and hands on blocks.
function parser(block) {
  let rest = "", fields = {};
  return text => {
    // A last \r may be half of a \r\n.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?/s.exec(line);
      if (name === "data" && "data" in fields) fields.data += "\n" + value;
      else if (name) fields[name] = value;
      if (!line) block(fields), fields = {};
    }
  };
}

function made({ channel, event, data, id = null }) {
  // What is no base64 is an app's own event of that name.
  if (event === "binary" && typeof data === "string") try { data = Uint8Array.from(atob(data), c => c.charCodeAt(0)); } catch {}
  return { channel, event, data, id };
}

// polled makes of a poll's event the same as wrap=1 does.
function polled(e) {
  if (e.event !== "binary") try { e.data = JSON.parse(e.data); } catch {}
  return made(e);
}

// requests are the one way to the server, with a token.
function requests({ server, token: given, credentials }) {
  let known;
  async function token(renew) {
    if (typeof given !== "function") return given;
    if (renew) known = null;
    // Whoever asks meanwhile waits for the same.
    const mine = known ??= (async () => given())();
    return mine.catch(e => { if (known === mine) known = null; throw e; });
  }
  async function ask(path, keys, query, id, signal, body) {
    const bearer = await Promise.race([token(), new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason)))]);
    const url = new URL(path, server), headers = {};
    for (const key of keys) url.searchParams.append(key[0] === "c" ? "channel" : "pattern", key.slice(1));
    for (const name in query) if (query[name] != null) url.searchParams.set(name, query[name]);
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    if (body) headers["Content-Type"] = "application/json";
    // Preflights are remembered by address. Without a token there is none, unless for this header.
    if (id && bearer) headers["Last-Event-ID"] = id;
    else if (id) url.searchParams.set("lastEventId", id);
    const answer = await fetch(url, { method: body ? "POST" : "GET", body: body && JSON.stringify(body), headers, signal, credentials, cache: "no-store" });
    if (answer.status === 200) return answer;
    const { error = "", code, channel, clientId } = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(`${answer.status} ${error} ${code ?? channel ?? clientId ?? ""}`.trim()),
      { status: answer.status, channel, clientId, wait: answer.headers.get("Retry-After") * 1e3 });
  }
  return { token, ask, post: (path, body) => ask(path, [], {}, "", AbortSignal.timeout(answerTime), body) };
}

// Connection keeps one connection up. It tells its owner what comes (deliver), how
// it is (tell), what may not be read (refused), and that it has given up (failed).
class Connection {
  status = { state: "connecting" };
  // What it brings, and of this what came with its initial events.
  keys = new Set();
  since = [];
  // Attempts and tokens without success.
  #tries = 0;
  #denied = 0;
  // How long to poll the next time, and until when now.
  #polls = 0;
  #pollUntil = 0;
  // The server's wish, in milliseconds.
  #retry = 2000;
  #wake = () => {};

  constructor(options, server, owner, at, clientId) {
    Object.assign(this, { options, server, owner, at, clientId });
    globalThis.addEventListener?.("online", this.online = () => this.#wake());
    this.#run();
  }

  close() {
    this.closed = true;
    globalThis.removeEventListener?.("online", this.online);
    this.#again();
  }

  // again goes on from the position, with the channels that are wanted now.
  #again() {
    this.#wake();
    this.attempt?.abort("again");
  }

  #say(state, more) {
    this.open = state === "open";
    this.status = { state, clientId: this.clientId, ...more };
    this.owner.tell();
  }

  #sleep(ms) {
    return new Promise(done => {
      const timer = ms && setTimeout(done, ms);
      this.#wake = () => { clearTimeout(timer); done(); };
    });
  }

  async #run() {
    while (!this.closed) {
      const keys = this.asked = this.owner.wanted();
      if (!keys.size) {
        this.at = "";
        this.#say("idle");
        await this.#sleep();
        continue;
      }
      if (!this.#tries) this.#say("connecting");
      const { signal } = this.attempt = new AbortController();
      let error, delay = 0;
      try {
        await (Date.now() < this.#pollUntil ? this.#poll(keys, signal) : this.#stream(keys, signal));
        error = new Error("the server closed the connection");
      } catch (e) {
        // What a broken stream throws says less.
        error = signal.reason ?? e;
      }
      this.open = false;
      if (this.closed) return;
      if (error === "again") continue;
      const { status, channel, clientId, wait = 0 } = error;
      if (error === "buffered") {
        // By something on the way, which lets whole answers through.
        this.#polls = Math.min(longestPollTime, this.#polls * 2 || pollTime);
        this.#pollUntil = Date.now() + this.#polls;
        error = new Error("nothing came on the stream");
      } else {
        this.#pollUntil = 0;
        if (this.owner.refused(channel, error)) continue;
        // A name that was given to somebody else before.
        if (status === 403 && clientId && !this.options.clientId) this.clientId = null;
        else if (status === 401 && typeof this.options.token === "function" && ++this.#denied < 3) this.server.token(true).catch(() => {});
        else if ([204, 400, 401, 403, 413, 414, 431].includes(status)) return this.owner.failed(error);
        delay = wait + Math.min(longestDelay, this.#retry * 2 ** this.#tries++) * (0.5 + Math.random());
      }
      this.#say("connecting", { error, retryIn: Math.round(delay) });
      if (delay) await this.#sleep(delay);
    }
  }

  async #stream(keys, signal) {
    const { attempt, at } = this;
    let timer, begun = false, items;
    const patience = ms => {
      clearTimeout(timer);
      timer = setTimeout(() => attempt.abort(begun ? new Error("the server fell silent") : "buffered"), ms);
    };
    const feed = parser(({ id, event, data, retry }) => {
      if (id != null) this.at = id;
      // What came without an id comes again on another connection, until a later id.
      this.unsure = id == null && (this.unsure || data != null && !event);
      if (/^\d+$/.test(retry)) this.#retry = +retry;
      if (event === "token-expiring") this.#renew();
      if (event === "subscribed") this.told?.(JSON.parse(data).channel);
      if (event === "connected") this.#opened(keys, at, "stream", JSON.parse(data));
      else if (event === "gap") items.push({ id, gap: JSON.parse(data) });
      else items.push({ id, event: event || data == null ? null : made({ ...JSON.parse(data), id }) });
    });
    patience(answerTime);
    try {
      const answer = await this.server.ask("events", keys, { wrap: 1, clientId: this.clientId, initial: this.options.initial }, at, signal);
      if (!/event-stream/.test(answer.headers.get("Content-Type"))) throw "buffered";
      const reader = answer.body.getReader(), decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        begun = true;
        patience(this.options.silence * 1e3);
        items = [];
        try { feed(decoder.decode(value, { stream: true })); } finally { this.owner.deliver(items); }
      }
    } finally {
      clearTimeout(timer);
      this.told?.();
    }
  }

  async #poll(keys, signal) {
    const { attempt, at } = this;
    for (let first = true; Date.now() < this.#pollUntil; first = false) {
      const timer = setTimeout(() => attempt.abort(new Error("no answer to a poll")), 25e3 + answerTime);
      try {
        const answer = await this.server.ask("poll", keys, { clientId: this.clientId, initial: this.options.initial }, this.at, signal);
        const { events, lastEventId: id, gap } = await answer.json();
        if (first) this.#opened(keys, at, "poll", {});
        this.at = id;
        this.owner.deliver([{ gap }, ...events.map(e => ({ id: e.id, event: polled(e) })), { id }]);
      } finally {
        clearTimeout(timer);
      }
    }
    throw "again";
  }

  #opened(keys, at, transport, { clientId = this.clientId, node, channels = [], patterns = [] }) {
    // It broke before it had a position.
    const lost = this.begun && !at;
    if (transport === "stream") this.#polls = 0;
    this.#tries = this.#denied = 0;
    Object.assign(this, { keys, clientId, begun: true, since: at ? [] : [...keys] });
    // Some come by themselves.
    this.brought = new Set([...channels.map(c => "c" + c), ...patterns.map(p => "p" + p)].filter(key => !keys.has(key)));
    this.#say("open", { transport, node });
    if (lost) this.owner.deliver([{ gap: gapOf(keys, "unknown-id") }]);
    this.changed();
  }

  // changed is called when other channels are wanted.
  changed(soon = 5) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#sync(soon), soon);
  }

  async #sync(soon) {
    // What the attempt asks for already is no reason for another one.
    const { attempt, asked: keys, owner } = this, wanted = owner.wanted();
    const differ = [...new Set([...keys, ...wanted])].filter(key => keys.has(key) !== wanted.has(key));
    if (this.closed || this.busy || !differ.length) return;
    const again = () => this.open && this.unsure && soon < 1000 ? this.changed(soon * 2) : this.#again();
    if (!this.open || this.status.transport === "poll" || !wanted.size || differ.length > mostPosts || differ.some(key => key[0] === "p")) return again();
    this.busy = true;
    this.since = [];
    for (const key of differ) {
      const add = wanted.has(key), channel = key.slice(1);
      // The stream tells where the channel begins, unless it has it without asking.
      const begun = add && ![...keys, ...this.brought].some(k => matcher(k)(channel))
        && new Promise(done => this.told = name => (name ?? channel) === channel && done(name === channel));
      const error = await this.server.post(add ? "subscribe" : "unsubscribe", { clientId: this.clientId, channel }).then(() => null, e => e);
      if (attempt !== this.attempt || !this.open) break;
      if (error ? !owner.refused(error.channel, error) : begun && !await Promise.race([begun, pause(answerTime)])) {
        this.busy = false;
        return again(); // its address asks for them
      }
      if (add && !error) keys.add(key);
      else keys.delete(key), this.brought.delete(key);
    }
    this.busy = false;
    if (this.open) owner.tell();
    this.changed();
  }

  // renew gives the connection a new token before the old one ends.
  async #renew() {
    const { attempt } = this;
    try {
      const old = await this.server.token(), token = await this.server.token(true);
      // The same one ends, and then another is asked for.
      if (token !== old) await this.server.post("refresh", { clientId: this.clientId, token });
    } catch {
      if (attempt === this.attempt) this.#again();
    }
  }
}

export class Sluice extends EventTarget {
  status = { state: "idle" };
  #options;
  #server;
  // By key, who listens; and the keys that the connection brings.
  #entries = new Map();
  #keys = new Set();
  // Everything up to at was given out here. What has an id up to floor came before.
  #at;
  #floor;
  // Only the tab that holds it has one.
  #connection;
  #tabs = { others: new Map(), post() {}, tell() {}, leave() {} };

  constructor(options = {}) {
    super();
    const o = this.#options = { silence: 75, credentials: "omit", ...options };
    o.server = new URL(String(o.server ?? new URL(".", import.meta.url)).replace(/\/?$/, "/"), globalThis.location?.href);
    // A cookie may be somebody else's by the next connection: the page has to say whose.
    o.share = !o.lastEventId && (o.share ?? o.credentials === "omit");
    this.#at = this.#floor = o.lastEventId ?? "";
    this.#server = requests(o);
    for (const type of ["gap", "status", "error"]) {
      const listener = o["on" + type[0].toUpperCase() + type.slice(1)];
      if (listener) this.addEventListener(type, e => listener(e.detail));
    }
  }

  get lastEventId() { return this.#at; }

  subscribe(channel, event, listener) { return this.#listen("c" + channel, event, listener); }
  subscribePattern(pattern, event, listener) { return this.#listen("p" + pattern, event, listener); }

  close(error) {
    this.#tabs.leave();
    this.#connection?.close();
    this.#entries.clear();
    this.#set({ state: "closed", error });
  }

  #listen(key, event, listener = event) {
    if (typeof listener !== "function") throw new TypeError("subscribe: want a function that takes events");
    if (this.status.state === "closed") throw new Error("subscribe: this Sluice is closed");
    const matches = matcher(key), entry = this.#entries.get(key) ?? { matches, listeners: new Set() };
    // Until its initial events are there, it is to hear of no others.
    const l = { matches, listener, key, event: listener === event ? undefined : event, held: [] };
    entry.listeners.add(l);
    this.#entries.set(key, entry);
    this.#set(this.status);
    this.#changed();
    return () => {
      entry.listeners.delete(l);
      if (!entry.listeners.size && this.#entries.get(key) === entry) this.#entries.delete(key);
      this.#changed();
    };
  }

  // changed tells what is wanted now, once for all that changes in one go.
  #changed() {
    this.changing ??= Promise.resolve().then(() => {
      this.changing = null;
      this.started ??= this.#start();
      this.#tabs.tell();
      this.#connection?.changed();
      this.#catchUp();
    });
  }

  // start shares a connection with the other tabs, or has one of its own.
  async #start() {
    try {
      if (!this.#options.share || !navigator.locks) throw "alone";
      const group = await this.#group(), { join } = await import("./sluice-tabs.js");
      this.#tabs = await join(group, {
        mine: () => ({ want: [...this.#entries.keys()], at: this.#at }),
        lead: positions => this.#connect(positions.reduce((a, b) => !a || order(b, a) < 0 ? b : a, this.#at)),
        changed: () => this.#connection?.changed(),
        hear: ({ items = [], state, refused, error, alone }, hello) => {
          items.forEach(item => this.#take(item));
          if (hello && this.#connection) this.#tell();
          if (state && !this.#connection) this.#apply(state);
          if (refused) this.#refuse(refused, error);
          if (alone) this.#alone();
        },
      });
      if (this.status.state === "closed") this.#tabs.leave();
    } catch {
      this.#connect(this.#at);
    }
  }

  // group names those who may share: with the same settings, for the same person.
  async #group() {
    const { server, share, clientId, initial, silence, credentials } = this.#options, token = await this.#server.token();
    // What two tokens of one person differ in does not count.
    const { exp, iat, nbf, jti, ...claims } = token ? JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))) : {};
    return "sluice1 " + JSON.stringify([server, share, clientId, initial, silence, credentials, claims]);
  }

  #connect(at) {
    if (this.status.state === "closed") return;
    this.#connection = new Connection(this.#options, this.#server, {
      wanted: () => new Set([...this.#entries.keys(), ...[...this.#tabs.others.values()].flatMap(other => other.want)]),
      deliver: items => {
        this.#tabs.post({ items });
        items.forEach(item => this.#take(item));
      },
      tell: () => this.#tell(),
      refused: (name, error) => {
        const wanted = this.#connection.owner.wanted(), key = name != null && ["c" + name, "p" + name].find(key => wanted.has(key));
        if (error.status !== 403 || !key) return false;
        this.#tabs.post({ refused: key, error });
        for (const other of this.#tabs.others.values()) other.want = other.want.filter(k => k !== key);
        this.#refuse(key, error);
        return true;
      },
      failed: error => {
        if (!this.#tabs.others.size) return this.close(error);
        // It may be about what another tab wants: each goes on by itself.
        this.#tabs.post({ alone: true });
        this.#alone();
      },
    }, at, this.#options.clientId ?? this.status.clientId);
  }

  #alone() {
    this.#tabs.leave();
    this.#tabs.others.clear();
    this.#connection?.close();
    this.#connect(this.#at);
  }

  #tell() {
    const { status, keys, since, at, closed } = this.#connection ?? { closed: true };
    if (closed) return;
    const state = { status, keys: [...keys], since, at };
    this.#tabs.post({ state });
    this.#apply(state);
  }

  #refuse(key, error) {
    if (this.#entries.delete(key)) this.#emit("error", error);
    this.#changed();
  }

  // apply takes note of how the connection is, this tab's or another's.
  #apply({ status, keys, since, at }) {
    const open = status.state === "open", missing = [];
    this.#keys = new Set(open ? keys : []);
    if (!this.#at) this.#at = this.#floor = at;
    for (const [key, entry] of open ? this.#entries : []) {
      const here = this.#keys.has(key);
      if (entry.here && !here) missing.push(key);
      entry.here = here;
      if (since.includes(key)) this.#release([...entry.listeners].filter(l => !l.asked));
    }
    this.#set(status);
    // The tab that connected did not know of them.
    if (missing.length) {
      this.#emit("gap", gapOf(missing, "dropped"));
      this.#changed();
    }
    this.#catchUp();
  }

  // catchUp gets what is initial for those who came when the connection had
  // brought their channel for a while.
  async #catchUp() {
    const late = [...this.#keys].flatMap(key => [...this.#entries.get(key)?.listeners ?? []]).filter(l => l.held && !l.asked), need = this.#at;
    if (!late.length) return;
    let answer;
    try {
      for (const l of late) l.asked = true;
      for (let tries = 5; tries && !(order(answer?.lastEventId, need) >= 0); tries--) {
        // That node knew less than this tab.
        if (answer) await pause(200);
        answer = await (await this.#server.ask("poll", new Set(late.map(l => l.key)), { timeout: 5, clientId: this.status.clientId, initial: this.#options.initial },
          "", AbortSignal.timeout(answerTime))).json();
      }
    } catch {}
    this.#release(late, answer);
  }

  #release(listeners, { events = [], lastEventId } = {}) {
    const all = events.map(polled), text = e => JSON.stringify([e.channel, e.event, e.data]);
    for (const l of listeners.filter(l => l.held)) {
      // What was held goes on where the others end, or there was some of them, too.
      const initial = all.filter(e => l.matches(e.channel)), texts = initial.map(text), { held } = l;
      const first = held.findIndex(e => texts.includes(text(e)));
      const both = first < 0 ? 0 : texts.length - texts.lastIndexOf(text(held[first]));
      // Without any, what comes later of before that position was never given.
      Object.assign(l, { held: null, upTo: initial.length ? lastEventId : "" });
      for (const e of [...held.splice(0, first), ...initial, ...held.slice(both)]) this.#call(l, e);
    }
  }

  #take({ id, event, gap }) {
    // After a gap things may come again, and are wanted.
    if (gap) this.#floor = "";
    else if (order(id, this.#floor) <= 0) return;
    if (id) this.#at = this.#floor = id;
    if (gap && [...this.#entries.keys()].some(key => (key[0] === "c" ? gap.channels : gap.patterns).includes(key.slice(1)))) this.#emit("gap", gap);
    for (const { matches, listeners } of event ? this.#entries.values() : []) {
      if (matches(event.channel)) for (const l of listeners) {
        if (l.held?.length >= mostHeld) this.#release([l]);
        if (l.held) l.held.push(event);
        else if (!(order(id, l.upTo) <= 0)) this.#call(l, event);
      }
    }
  }

  #call(l, e) {
    if (l.event !== undefined && l.event !== e.event) return;
    // The others go on; the browser reports it.
    try { l.listener(e); } catch (error) { setTimeout(() => { throw error; }); }
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  // set is open only when all that is wanted comes.
  #set(status) {
    if (status.state === "open" && [...this.#entries.keys()].some(key => !this.#keys.has(key))) status = { ...status, state: "connecting" };
    this.status = status;
    this.#emit("status", status);
  }
}
