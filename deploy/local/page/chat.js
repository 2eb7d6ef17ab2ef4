import { $, el, plain, post } from "./dom.js";

const most = 12, mostSimulated = 4; // lines; what people say stays longer
const id = Math.random().toString(36).slice(2, 5);

export function chat(d) {
  const list = $("#chat .lines");
  const li = d?.text ? el("li", "", "", el("b", d.from), " " + d.text) : el("li", plain(d));
  if (!d?.seq) li.className = d?.tab === id ? "said mine" : "said";
  list.append(li);
  const simulated = list.querySelectorAll("li:not(.said)");
  if (simulated.length > mostSimulated) simulated[0].remove();
  if (list.children.length > most) list.firstChild.remove();
}

// Whatever is sent goes the way of all events: by the publisher into Redis.
export function startChat() {
  $("#from").value = sessionStorage.getItem("name") ?? `guest ${id}`;
  $("#from").onchange = () => sessionStorage.setItem("name", $("#from").value);
  $("#say").onsubmit = async e => {
    e.preventDefault();
    const text = $("#text").value;
    $("#text").value = "";
    const data = { room: "demo", from: $("#from").value, text, tab: id, timestamp: new Date().toISOString() };
    const answer = await post("/notify", { channel: "chat:demo", event: "message", data });
    if (answer.success) return;
    $("#text").value ||= text;
    chat({ from: "not sent:", text: answer.error });
  };
}
