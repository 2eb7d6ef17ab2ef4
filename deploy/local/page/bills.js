import { $, money, tr } from "./dom.js";

const bills = new Map();

export function billStatus(d) {
  bills.set(d.billId, d); // a known one stays where it is
  if (bills.size > 6) bills.delete(bills.keys().next().value);
  $("#bills tbody").replaceChildren(...[...bills.values()].reverse().map(b =>
    tr([b.billId], [money.format(b.amount)], [b.status, { paid: "up", rejected: "down" }[b.status]])));
}
