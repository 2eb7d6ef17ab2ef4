import { $, el, post } from "./dom.js";

const every = 1000; // ms between two looks

// What runs, and the buttons that break it. It returns what looks again at once.
export function startWorkers(info, node, expect) {
  show(info);
  for (const b of $(".buttons").children) b.disabled = !info.controls;
  if (!info.controls) $("#breaks").replaceChildren(el("li", "To break things, open http://localhost on the machine that runs this.", "soft"));
  $("#drop").onclick = () => {
    expect("dropped the connection");
    post("/demo/drop");
  };
  $("#kill-node").onclick = () => kill(node());
  $("#kill-bridge").onclick = () => kill("leader");
  async function kill(name) {
    const before = name === "leader" ? "the leading bridge" : name;
    expect(`killed ${before}`);
    const { killed, pid, error } = await post(`/demo/kill/${name}`);
    if (killed) expect(`killed ${killed}, process ${pid}`);
    else $("#breaks").prepend(el("li", error, "bad"));
    look();
  }
  async function look() {
    try { show(await (await fetch("/demo/workers")).json()); } catch { show(); }
  }
  (async () => {
    for (;;) {
      await new Promise(done => setTimeout(done, every));
      if (!document.hidden) await look();
      $("#kill-node").textContent = node() ? `Kill ${node()}, the node I am on` : "Kill the node I am on";
      $("#kill-node").disabled = !info.controls || !node();
    }
  })();
  return look;
  function show({ bridges, nodes } = {}) {
    if (!bridges) return document.querySelectorAll(".workers li").forEach(li => li.className = "gone");
    fill($("#bridges"), bridges, b => b.role?.replace(/:.*/s, "") || "starts");
    fill($("#nodes"), nodes, n => n.name === node() ? "you are here" : "serves");
  }
}

// fill shows one line for each process; why a standby is cold is in its title.
function fill(list, workers, role) {
  list.replaceChildren(...workers.map(w => {
    const what = w.pid ? role(w) : "killed", here = what === "leader" || what === "you are here";
    const li = el("li", "", w.pid ? here ? "here" : "" : "gone", el("b", w.name), el("span", what));
    li.title = w.pid ? `process ${w.pid}, start ${w.starts}${w.role ? `, ${w.role}` : ""}` : "starts again in a moment";
    return li;
  }));
}
