// Tabs that share a connection. Each holds a lock of its own for as long as it
// lives, so that the others notice when it is gone. Who holds the group's lock
// has the connection and sends the others what comes. All know what each wants
// and how far it has come, so any of them can go on with it.

const patience = 1000; // ms for the answers of the other tabs

// join makes the tab one of the group. tab.mine() tells what it wants and its
// position, tab.lead(at) makes it connect, tab.hear(message) takes what the others
// send, tab.changed() is called when they want something else.
export async function join(group, tab) {
  const id = Math.random().toString(36).slice(2), others = new Map();
  const left = new AbortController(), { signal } = left;
  const gone = new Promise(done => signal.addEventListener("abort", done));
  const lock = (name, f) => navigator.locks.request(name, { signal }, f).catch(() => {});
  const channel = new BroadcastChannel(group);
  const post = message => signal.aborted || channel.postMessage({ ...message, from: id });
  const tell = more => post({ ...tab.mine(), ...more });
  let heard = () => {};

  channel.onmessage = ({ data: { from, want, at, hello, ...message } }) => {
    if (want) {
      if (!others.has(from)) lock(`${group} ${from}`, () => { others.delete(from); tab.changed(); });
      others.set(from, { want, at });
      tab.changed();
      heard();
    }
    if (hello) tell();
    tab.hear(message, hello);
  };

  // positions asks all tabs that live how far they have come. To go on from where
  // the last one is loses nothing: the others pass over what they have got.
  async function positions() {
    const { held } = await navigator.locks.query();
    const alive = held.map(l => l.name.split(`${group} `)[1]).filter(other => other && other !== id);
    const before = new Map(others), answered = () => alive.filter(other => others.get(other) !== before.get(other));
    post({ hello: true });
    await new Promise(done => {
      setTimeout(done, patience);
      heard = () => answered().length < alive.length || done();
      heard();
    });
    return answered().map(other => others.get(other).at);
  }

  await new Promise(held => lock(`${group} ${id}`, () => { held(); return gone; }));
  tell({ hello: true });
  lock(group, async () => {
    tab.lead(await positions());
    await gone;
  });
  return { others, post, tell, leave() { left.abort(); channel.close(); } };
}
