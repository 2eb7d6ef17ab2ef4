import { $, bars } from "./dom.js";

const most = 3;
const jobs = new Map();

export function job(d) {
  jobs.set(d.jobId, d);
  bars($("#jobs .bars"), [...jobs.values()].sort((a, b) => a.jobId < b.jobId ? -1 : 1).slice(0, most)
    .map(j => ({ name: `${j.jobId}, run ${j.run}`, share: j.percent / 100, value: j.status === "running" ? `${j.percent} %` : j.status, key: j.jobId })));
}
