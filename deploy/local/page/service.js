import { $, line, plain, post } from "./dom.js";

// Every client is on the broadcast channel and on its own without asking. So these are
// listened to whatever is picked.
let own; // the channel of this page's connection

export function startService(sluice, heard) {
  let end;
  const listener = e => {
    heard(e);
    line($("#service .lines"), e.channel === own ? "you" : "all", e.data?.text ?? plain(e.data));
  };
  sluice.subscribe("sse:broadcast", listener);
  sluice.addEventListener("status", () => {
    const { clientId } = sluice.status, channel = `sse:channel:${clientId}`;
    if (!clientId || own === channel) return;
    end?.();
    end = sluice.subscribe(own = channel, listener);
  });
  $("#tell-all").onclick = () => tell("/broadcast", { event: "broadcast", data: { text: `${$("#from").value} greets all` } });
  $("#tell-me").onclick = () => tell("/notify", { clientId: sluice.status.clientId, event: "notification", data: { text: "for this browser alone" } });
}

async function tell(path, body) {
  body.data.timestamp = new Date().toISOString();
  const { success, recipients, error } = await post(path, body);
  $("#service .last").textContent = success ? `reached ${recipients ?? "an unknown number of"} ${recipients === 1 ? "connection" : "connections"}` : `not sent: ${error}`;
}
