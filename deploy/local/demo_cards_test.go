package main

import (
	"fmt"
	"testing"
)

// text is what stands in an element.
func text(selector string) string {
	return fmt.Sprintf(`document.querySelector(%q).innerText`, selector)
}

// The smaller cards go on with what comes, and stop when it is not picked any more.
func TestDemoCards(t *testing.T) {
	cfg := localConfig()
	cfg.Local.Rate = 20
	p := newDemoPages(t, cfg)
	b := p.demoTab(t)
	for card, channel := range map[string]string{"news": "news:*", "jobs": "jobs:*", "dashboard": "dashboard:demo", "items": "items:demo", "alerts": "trivia:demo"} {
		for range 2 {
			var before string
			b.run(text("#"+card), &before)
			b.until(fmt.Sprintf(`%s !== %q`, text("#"+card), before))
		}
		b.run(fmt.Sprintf(`[...document.querySelectorAll("#picks button")].find(b => b.textContent === %q).click()`, channel), nil)
		if card != "alerts" { // the others of its channels are picked
			b.until(fmt.Sprintf(`document.querySelector("#%s").classList.contains("off")`, card))
		}
	}
	b.until(text("#lost") + ` === "0"`)
}

// Who is a guest gets the notices that are for all, and who has signed in as an admin
// those for admins, too; what was for others is not taken for lost.
func TestDemoNotices(t *testing.T) {
	cfg := localConfig()
	cfg.Local.Rate = 20
	p := newDemoPages(t, cfg)
	b := p.demoTab(t)
	full := `document.querySelectorAll("#notices li").length === 4`
	b.until(full)
	only := func() {
		t.Helper()
		var wrong string
		b.run(`new Promise(done => {
			const wrong = () => [...document.querySelectorAll("#notices b")].map(b => b.innerText).find(kind => kind !== "for-all");
			const timer = setInterval(() => wrong() && done(wrong()), 10);
			setTimeout(() => { clearInterval(timer); done(""); }, 1500);
		})`, &wrong)
		if wrong != "" {
			t.Errorf("a guest gets what is %s", wrong)
		}
	}
	only()
	b.click("#admin")
	for _, kind := range []string{"for-admins", "for-staff", "for-all"} {
		b.says("#notices .lines", kind)
	}
	b.click("#admin")
	b.until(full)
	only()
	b.says("#notices .last", "as a guest")
	b.until(text("#lost") + ` === "0"`)
	if streams := p.streams(); streams != 1 {
		t.Errorf("%d streams are open: the admin's was not closed", streams)
	}
}

// What is for all reaches all, and what is for one connection nobody else; neither was
// asked for. The page goes on with it after a reconnection.
func TestDemoService(t *testing.T) {
	p := newDemoPages(t, localConfig())
	b := p.demoTab(t)
	b.click("#enter")
	b.says("#who", "signed in as alice")
	b.until(`document.querySelectorAll("#presence tr").length === 2`)
	// tells presses a button until it was counted in time how many are reached.
	tells := func(button, who, text, reached string) {
		t.Helper()
		until(t, reached, func() (counted bool) {
			b.run(fmt.Sprintf(`[...document.querySelectorAll("#service li")].filter(li => li.querySelector("b").innerText === %q).forEach(li => li.remove());
				document.querySelector("#service .last").textContent = ""`, who), nil)
			b.click(button)
			b.says("#service .lines", text)
			b.says("#service .last", "reached")
			b.run(fmt.Sprintf(`document.querySelector("#service .last").innerText === %q`, reached), &counted)
			return counted
		})
	}
	for range 2 {
		tells("#tell-all", "all", "greets all", "reached 2 connections")
		tells("#tell-me", "you", "for this browser alone", "reached 1 connection")
		var lines string
		if b.run(`[...document.querySelectorAll("#service b")].map(b => b.innerText).join()`, &lines); lines != "you,all" {
			t.Errorf("the lines are %q, want each once", lines)
		}
		connects := p.connects()
		b.click("#drop")
		until(t, "both streams are back", func() bool { return p.connects() >= connects+2 && p.sum("connections") == 2 })
		b.says("#state", "connected to node")
		b.says("#who", "signed in as alice")
	}
}

// Who is connected is listed, with the node, and is gone from there when it is gone.
func TestDemoPresence(t *testing.T) {
	p := newDemoPages(t, localConfig())
	b := p.demoTab(t)
	listed := `[...document.querySelectorAll("#presence tr")].map(tr => tr.cells[0].innerText.replace(/-.*/, "") + " " + /^node\d$/.test(tr.cells[1].innerText)).join()`
	b.until(listed + ` === "guest true"`)
	b.says("#presence .last", "1 connection on all nodes")
	var node string
	b.run(text("#node"), &node)
	b.says("#presence tr", node)
	b.click("#enter")
	b.until(listed + ` === "guest true,alice true"`)
	b.says("#presence .last", "2 connections on all nodes")
	b.click("#enter")
	b.until(listed + ` === "guest true"`)
}

// The names of players who stand close are not upon each other, wherever they stand.
func TestDemoGame(t *testing.T) {
	cfg := localConfig()
	cfg.Local.Simulate = "chat"
	p := newDemoPages(t, cfg)
	b := p.demoTab(t)
	// Two are close, one above the other or side by side, and the others far away.
	for _, at := range [][4][2]int{{{50, 42}, {50, 50}, {10, 46}, {90, 47}}, {{43, 50}, {50, 50}, {10, 40}, {90, 60}}} {
		var upon []string
		b.run(`(async () => {
		const { game } = await import("/demo/game.js"), found = [];
		const orders = list => list.length < 2 ? [list] : list.flatMap((one, i) => orders(list.toSpliced(i, 1)).map(rest => [one, ...rest]));
		for (const at of orders(`+toJSON(at)+`)) {
			game({ type: "game-state", moves: 1, players: at.map(([x, y], i) => ({ playerId: "p" + (i + 1), x, y })) });
			await new Promise(done => setTimeout(done, 350)); // they glide
			const all = [...document.querySelectorAll("#game text")].map(text => [text.textContent, text.getBoundingClientRect()]);
			// A box is some pixels higher than what is written in it.
			all.forEach(([a, p], i) => all.slice(i + 1).forEach(([b, q]) => {
				if (Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 5)
					found.push(a + " and " + b + " of " + JSON.stringify(at));
			}));
		}
		return found;
	})()`, &upon)
		if len(upon) > 0 {
			t.Errorf("names are upon each other: %q", upon)
		}
	}
}

// Without tokens there are no roles, and presence is a number.
func TestDemoOpen(t *testing.T) {
	cfg := localConfig()
	cfg.Local.Auth = "off"
	p := newDemoPages(t, cfg)
	b := p.demoTab(t)
	b.says("#presence .last", "1 connection on all nodes")
	b.until(`document.querySelector("#admin").disabled`)
	b.says("#notices .lines", "for-all")
	b.click("#tell-me")
	b.says("#service .lines", "for this browser alone")
	until(t, "one stream", func() bool { return p.streams() == 1 })
}
