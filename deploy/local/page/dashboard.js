import { $, bars } from "./dom.js";

// What is shown of it, and what fills a bar.
const gauges = [["requestsPerSecond", "requests a second", 2000], ["errorsPerSecond", "errors a second", 20], ["cpuPercent", "processor, %", 100]];

export function dashboard(d) {
  bars($("#dashboard .bars"), gauges.map(([field, name, full]) => ({ name, share: Math.min(1, d[field] / full), value: d[field] })));
}
