package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/shared/embedded"
)

// packages installs what testdata/client's lock file names, and returns where. The
// client's files lie beside it.
func packages(t *testing.T) string {
	t.Helper()
	return npmInstalled(t, "../../ssenode/web/sluice*.*s", "testdata/client/*")
}

// npmInstalled copies the files that match into a folder, installs there what the lock
// file among them names, and returns the folder.
func npmInstalled(t *testing.T, patterns ...string) string {
	t.Helper()
	npm := embedded.NeedProgram(t, "npm")
	dir := t.TempDir()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--no-audit", "--no-fund", "--prefer-offline")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v: %s", err, out)
	}
	return dir
}

// The types say what there is: a program that uses all of it compiles, and each
// mistake in it is found.
func TestClientTypes(t *testing.T) {
	dir := packages(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node_modules", ".bin", "tsc"), "-p", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}

// A component shows what comes, and lets go of its channel when it is gone.
func TestClientReact(t *testing.T) {
	dir := packages(t)
	p := newPages(t, 1, "SSENODE_LINGER=100ms", "ROUTES=bill:* initial=1")
	// React comes as CommonJS; a page without a bundler needs modules.
	module := func(name, file, names string, needs ...string) {
		code, err := os.ReadFile(filepath.Join(dir, "node_modules", file))
		if err != nil {
			t.Fatal(err)
		}
		var imports, known strings.Builder
		for i, n := range needs {
			fmt.Fprintf(&imports, "import m%d from %q;\n", i, "/npm/"+n)
			fmt.Fprintf(&known, "%q: m%d,", n, i)
		}
		text := fmt.Sprintf("%sconst module = { exports: {} }, exports = module.exports, require = name => ({%s})[name];\n%s\nexport default module.exports;\nexport const { %s } = module.exports;\n",
			imports.String(), known.String(), code, names)
		p.mux.HandleFunc("GET /npm/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write([]byte(text))
		})
	}
	module("react", "react/cjs/react.production.js", "createContext, createElement, StrictMode, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore")
	module("scheduler", "scheduler/cjs/scheduler.production.js", "unstable_now")
	module("react-dom", "react-dom/cjs/react-dom.production.js", "version", "react")
	module("react-dom/client", "react-dom/cjs/react-dom-client.production.js", "createRoot", "react", "react-dom", "scheduler")
	b := p.tab(t)
	p.publish("bill:1", `"received"`)
	eventually(t, "history", func() bool { return len(initial(t, p, "bill:1")) == 1 })
	b.run(fmt.Sprintf(`(async () => {
		const React = await import("react"), { createRoot } = await import("react-dom/client");
		const { useSluice, SluiceContext } = await import("%[1]s/sluice-react.js"), { Sluice } = await import("%[1]s/sluice.js");
		const Bill = ({ channel }) => {
			const { event, status, gap } = useSluice(channel, { onGap: g => gaps.push(g) });
			return React.createElement("p", { id: "bill" }, channel + " " + (event ? event.data : "none") + " " + status.state);
		};
		const Log = () => { useSluice("log:*", { pattern: true, name: "line", onEvent: note }); return null; };
		window.root = createRoot(document.body.appendChild(document.createElement("div")));
		window.show = (...channels) => root.render(React.createElement(React.StrictMode, null, React.createElement(Log),
			...channels.map(channel => React.createElement(Bill, { channel, key: "bill" }))));
		window.showOf = (options, channel) => root.render(React.createElement(SluiceContext, { value: window.own = new Sluice(options) },
			React.createElement(Bill, { channel })));
		show("bill:1");
	})()`, p.server), nil)
	says := func(text string) {
		t.Helper()
		b.until(fmt.Sprintf(`document.querySelector("#bill")?.textContent === %q`, text))
	}
	says("bill:1 received open")
	p.publish("bill:1", `"paid"`)
	says("bill:1 paid open")
	p.publish("log:x", `{"event":"line","data":1}`)
	p.publish("log:x", `{"event":"other","data":2}`)
	p.publish("log:x", `{"event":"line","data":3}`)
	b.until(`got.length === 2 && got[1].data === 3`)
	b.run(`show("bill:2")`, nil)
	says("bill:2 none open")
	p.publish("bill:1", `"of the other"`)
	p.publish("bill:2", `"new"`)
	says("bill:2 new open")
	// Of a Sluice that the page has made; its gaps reach who listens to the channel.
	b.run(`showOf({ lastEventId: "another-1" }, "bill:2")`, nil)
	b.until(`own.status.state === "open" && gaps.length === 1 && gaps[0].reason === "stream-recreated" && gaps[0].channels.join() === "bill:2"`)
	p.publish("bill:2", `"newer"`)
	says("bill:2 newer open")
	eventually(t, "the other one has let go of its channels", func() bool { return p.connections() == 1 })
	b.run(`root.unmount()`, nil)
	eventually(t, "nothing is subscribed any more", func() bool { return p.connections() == 0 })
}
