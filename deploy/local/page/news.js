import { $, line } from "./dom.js";

export function news(d) { line($("#news .lines"), d.section, d.headline); }
