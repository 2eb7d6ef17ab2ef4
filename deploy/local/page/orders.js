import { Sluice } from "/sluice.js";
import { $, el, plain, post } from "./dom.js";

// The private channel has a connection of its own, with the user's token: signing in
// and out does not disturb the others.
let sluice;

export function startOrders({ signIn, controls }, heard) {
  const list = $("#orders .lines");
  const user = () => $("#user").value;
  const who = text => { $("#who").textContent = $("#who").title = text; };
  const out = () => {
    sluice?.close();
    sluice = undefined;
    list.replaceChildren();
    $("#private").textContent = `user:${user()}`;
    $("#enter").textContent = signIn ? "Sign in" : "Listen";
    $("#peek").hidden = !signIn;
    $("#note").hidden = true;
    $("#user").disabled = false;
    who(!signIn ? "open to everyone" : controls ? "only who is signed in may read it" : "to sign in, open http://localhost on its own machine");
  };
  $("#enter").disabled = signIn && !controls;
  $("#user").onchange = out;
  $("#sign").onsubmit = e => {
    e.preventDefault();
    if (sluice) return out();
    const name = user(), here = sluice = new Sluice({
      // An application's server would ask for a password first.
      token: signIn ? () => token(name) : undefined,
      initial: 4,
      onStatus: s => { if (here === sluice) who(s.state === "open" ? `${signIn ? `signed in as ${name}` : "listening"}, on ${s.node ?? "a node"}` : s.error?.message ?? s.state); },
    });
    sluice.subscribe(`user:${name}`, e => {
      if (here !== sluice) return;
      list.prepend(el("li", e.data?.title ?? plain(e.data), "", el("span", e.data?.message)));
      list.children[4]?.remove();
      heard(e);
    });
    $("#enter").textContent = signIn ? "Sign out" : "Stop";
    $("#peek").hidden = true;
    $("#note").hidden = false;
    $("#user").disabled = true;
    who("signing in…");
  };
  $("#peek").onclick = async () => {
    const answer = await fetch(`/poll?channel=user:${user()}`), { error, code } = await answer.json();
    if (!sluice) who(`the node answers ${answer.status} ${error ?? ""} ${code ? `(token ${code})` : ""}`);
  };
  $("#note").onclick = async () => {
    const answer = await post("/notify", { channel: `user:${user()}`, event: "notification", data: { title: "A note", message: `for ${user()} alone`, timestamp: new Date().toISOString() } });
    if (!answer.success) who(answer.error);
  };
  out();
}

export async function token(name, role = "") {
  const answer = await post(`/demo/sign-in?user=${name}&role=${role}`);
  if (!answer.token) throw new Error(answer.error);
  return answer.token;
}
