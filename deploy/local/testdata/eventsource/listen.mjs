// node listen.mjs <package> <url> [alone]: an EventSource of the package, told to as the
// package's README shows. Each event, and each error, is a line of JSON on the standard
// output. It ends with its standard input, or, alone, when nothing keeps Node going.
const [name, url, alone] = process.argv.slice(2);
const { EventSource } = await import(name);

const es = new EventSource(url);
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");
for (const type of ["message", "tick", "gap", "connected"]) {
	es.addEventListener(type, (e) => say({ name: type === "message" ? "" : type, data: e.data, id: e.lastEventId }));
}
es.addEventListener("error", (e) => say({ error: `${e.code ?? ""} ${e.message ?? ""}`, closed: es.readyState === es.CLOSED }));
if (!alone) {
	process.stdin.on("end", () => process.exit());
	process.stdin.resume();
}
