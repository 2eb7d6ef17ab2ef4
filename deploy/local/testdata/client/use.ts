// Uses all that the types promise. Compiled in TestClientTypes, never run.
import { Sluice, type Gap, type SluiceEvent, type SluiceError, type SluiceOptions, type Status } from "./sluice.js";
import { SluiceContext, useSluice } from "./sluice-react.js";

const options: SluiceOptions = {
  server: new URL("https://live.example.com/"),
  token: async () => "x.y.z",
  clientId: "anna.tab2",
  initial: 3,
  lastEventId: "e1-7",
  credentials: "include",
  share: "anna",
  silence: 75,
  onGap: (gap: Gap) => gap.channels.concat(gap.patterns, gap.reason, gap.from ?? "", gap.to ?? ""),
  onStatus: (status: Status) => status.state === "open" && status.transport === "poll",
  onError: (error: SluiceError) => `${error.status} ${error.channel}`,
};
const sluice = new Sluice(options);
interface Bid { amount: number }
const end: () => void = sluice.subscribe<Bid>("auction:1", "bid", e => e.data.amount.toFixed(2));
sluice.subscribe("auction:1", null, e => e.id?.length);
sluice.subscribePattern("stocks:*", (e: SluiceEvent<string>) => e.channel + e.data + e.event);
sluice.addEventListener("gap", e => e.detail.reason);
sluice.addEventListener("status", e => e.detail.retryIn ?? e.detail.node ?? e.detail.clientId ?? e.detail.error?.message);
end();
const at: string = sluice.lastEventId;
sluice.close();
new Sluice();

const { event, gap, status } = useSluice<Bid>("auction:1", { pattern: false, name: "bid", onEvent: e => e.data.amount, onGap: g => g.reason });
event?.data.amount.toFixed();
gap?.reason;
status.state;
useSluice(null);
SluiceContext.displayName = at;

// @ts-expect-error: no such option
new Sluice({ reconnect: true });
// @ts-expect-error: no listener
sluice.subscribe("a");
// @ts-expect-error: data is a Bid
sluice.subscribe<Bid>("a", e => e.data.price);
// @ts-expect-error: no such reason
options.onGap?.({ channels: [], patterns: [], reason: "lost", from: null, to: null });
// @ts-expect-error: a channel is text
useSluice(1);
// @ts-expect-error: no such state
status.state === "broken";
