import { $, money, tr } from "./dom.js";

export function auction(d) {
  const sold = d.type === "auction-end";
  $("#auction .big").textContent = money.format(d.amount);
  $("#auction .big").classList.toggle("up", sold);
  $("#auction .last").textContent = sold
    ? `lot ${d.lot} sold to ${d.winner} after ${d.bids} bids`
    : `lot ${d.lot}, bid ${d.bids} by ${d.bidder}`;
  if (sold) $("#auction tbody").prepend(tr([`lot ${d.lot}`], [d.winner], [money.format(d.amount)]));
  $("#auction tbody").children[3]?.remove();
}
