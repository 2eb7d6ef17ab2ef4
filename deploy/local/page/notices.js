import { Sluice } from "/sluice.js";
import { $, line } from "./dom.js";
import { token } from "./orders.js";

// Who one is decides which notices come: guests get those for all, by the page's
// connection. An admin's token needs a connection of its own.
let admin;

export function notice(d) { if (!admin) show(d); }

function show(d) { line($("#notices .lines"), d.type, d.text); }

export function startNotices({ signIn, controls }) {
  const button = $("#admin");
  button.disabled = !signIn || !controls;
  button.onclick = () => {
    admin?.close();
    const here = admin = admin ? undefined : new Sluice({ token: () => token("admin", "admin"), initial: 3 });
    button.setAttribute("aria-pressed", !!admin);
    $("#notices .last").textContent = admin ? "for all, for staff and for admins" : "as a guest: only those for all";
    $("#notices .lines").replaceChildren();
    admin?.subscribe("notices", e => { if (here === admin && e.data?.seq) show(e.data); });
  };
}
