import { $, bars } from "./dom.js";

export function leaderboard(d) {
  const best = d.leaderboard[0].score;
  bars($("#leaderboard .bars"), d.leaderboard.map(p => ({ name: p.playerId, share: p.score / best, value: p.score })));
  $("#leaderboard .last").textContent = d.type === "rank-change"
    ? `${d.playerId} goes from rank ${d.previousRank} to ${d.rank}`
    : `${d.playerId} scores, rank ${d.rank}`;
}
