package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// The pages of today's apps in a browser, unchanged but for the host name, with their
// publishers: each shows what it is to show, over connections that break and come back
// at another node.
func TestAppPages(t *testing.T) {
	p := newAppPages(t, appEndpoints, appRoutes+"; > history=5000/10m")
	p.row(t, "Race", func(t *testing.T, p *appPages) {
		one, two := p.open(t, "/apps/race.html", "urlSlug", "demo"), p.open(t, "/apps/race.html", "urlSlug", "demo-2")
		p.plays("race", one, two)
		one.lines("events", fields(p.apps.rec.of("race-events:demo"), "type", "urlSlug", "raceId", "playerId|=all", "seq"))
		two.lines("events", fields(p.apps.rec.of("race-events:demo-2"), "type", "urlSlug", "raceId", "playerId|=all", "seq"))
	})
	p.row(t, "Auction", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/auction.html", "auctionId", "2")
		p.plays("auction", b)
		all := p.apps.rec.of("auction:2")
		b.lines("events", fields(all, "type", "lot", "bids", "bidder|winner"))
		var highest string
		b.run(`document.getElementById("highest").textContent`, &highest)
		if last := fields(all[len(all)-1:], "lot", "bidder|winner")[0]; highest != "lot "+strings.Replace(last, " ", ": ", 1) {
			t.Errorf("it shows %q, the last bid is %q", highest, last)
		}
	})
	p.row(t, "Leaderboard", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/leaderboard.html", "urlSlug", "demo")
		stop := p.apps.play(1, 200, "leaderboard")
		b.until(`ids.length > 1`)
		for _, hop := range p.hops {
			hop.Cut()
		}
		b.until(`opened > 1 && ids.length > 3`)
		stop()
		all := p.apps.rec.of("leaderboard:demo")
		var last struct {
			Leaderboard []struct {
				PlayerID string
				Score    int
			}
		}
		if err := json.Unmarshal([]byte(all[len(all)-1].data), &last); err != nil {
			t.Fatal(err)
		}
		var board []string
		for _, entry := range last.Leaderboard {
			board = append(board, fmt.Sprint(entry.PlayerID, " ", entry.Score))
		}
		b.until(fmt.Sprintf(`JSON.stringify([...document.querySelectorAll("#board li")].map(li => li.textContent)) === %q`, toJSON(board)))
		var updates int
		if b.run(`+document.getElementById("updates").textContent`, &updates); updates > len(all)/20 {
			t.Errorf("%d of %d updates are shown", updates, len(all))
		}
	})
	p.row(t, "Game", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/game.html", "room", "room1")
		stop := p.apps.play(2, 500, "game")
		b.until(`+document.getElementById("states").textContent > 20`)
		for _, hop := range p.hops {
			hop.Cut()
		}
		b.until(`opened > 1`)
		b.run(`window.before = +document.getElementById("states").textContent`, nil)
		b.until(`+document.getElementById("states").textContent > before + 20`)
		stop()
		var lines []string
		for i := range 4 {
			moves := p.apps.rec.of(fmt.Sprint("game:room1:p", i+1))
			lines = append(lines, fields(moves[len(moves)-1:], "playerId", "x", "y")...)
		}
		b.until(fmt.Sprintf(`JSON.stringify([...document.querySelectorAll("#players li")].map(li => li.textContent).sort()) === %q`, toJSON(lines)))
	})
	p.row(t, "BillStatus", func(t *testing.T, p *appPages) {
		p.publish("billStatusChannel", `{"billId":"b","status":"approved","timestamp":"t"}`)
		eventually(t, "it is there", func() bool { return len(initial(t, p.pages, "billStatusChannel")) == 1 })
		b := p.open(t, "/apps/bills.html")
		b.lines("events", []string{"b approved t"})
		p.plays("bills", b)
		b.lines("events", fields(p.apps.rec.of("billStatusChannel"), "billId", "status", "timestamp"))
	})
	p.row(t, "Hub", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/hub.html", "clientId", "c.1", "channels", "items:demo,items:demo-2")
		press := func(what, channel string) {
			b.run(fmt.Sprintf(`document.forms[0].channel.value = %q; document.querySelector("[value=%s]").click()`, channel, what), nil)
		}
		p.plays("items", b)
		b.lines("events", each(p.apps.rec.each("items:demo", "items:demo-2"), "name", "itemId", "seq")...)
		b.until(`document.getElementById("client").textContent === "c.1"`)
		press("subscribe", "items:more")
		b.until(`document.getElementById("channels").innerText === "subscribed items:more"`)
		p.publish("items:more", `{"event":"item-added","data":{"itemId":"of more","seq":0}}`)
		b.until(`document.getElementById("events").lastChild.textContent === "item-added of more 0"`)
		press("unsubscribe", "items:more")
		b.until(`document.getElementById("channels").lastChild.textContent === "unsubscribed items:more"`)
	})
	p.row(t, "Feeds", func(t *testing.T, p *appPages) {
		for what, channels := range map[string][]string{
			"pattern=stocks:*": {"stocks:*"}, "channel=chat:demo": {"chat:demo"}, "channel=jobs:job1&channel=dashboard:demo&pattern=news:*": {"jobs:job1", "dashboard:demo", "news:*"},
		} {
			p.apps.rec = newRecord(t, p.client)
			b := p.open(t, "/apps/feed.html", "what", what)
			p.plays("stocks chat jobs dashboards news", b)
			b.lines("events", each(p.apps.rec.each(channels...), "name", "seq")...)
		}
	})
}

// The pages for which one signs in: by a cookie of the page's own host, which passes
// the path on, and by a token in the address.
func TestAppPagesSignedIn(t *testing.T) {
	p := newAppPages(t, appSignedIn, appUser, appAuto, "SSENODE_USER_CHANNELS=user:{claim.sub}", "SSENODE_COOKIE=session", "ROUTES=> history=5000/10m")
	server, err := url.Parse(p.server)
	if err != nil {
		t.Fatal(err)
	}
	p.mux.Handle("GET /notifications/stream", &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(server)
		r.Out.Host = r.In.Host
	}})
	p.mux.HandleFunc("GET /sign-in", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token(t, "frank"), HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, "/apps/notifications.html", http.StatusFound)
	})
	p.row(t, "Notifications", func(t *testing.T, p *appPages) {
		b := p.open(t, "/sign-in")
		p.plays("notifications", b)
		b.lines("events", fields(p.apps.rec.of("user:frank"), "type", "from", "seq"))
	})
	p.row(t, "Orders", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/orders.html", "token", token(t, "bob"))
		p.plays("orders", b)
		b.lines("events", fields(p.apps.rec.of("user:bob"), "type", "orderId", "title"))
	})
	p.row(t, "Service", func(t *testing.T, p *appPages) {
		b := p.open(t, "/apps/service.html", "clientId", "client1", "token", token(t, "client1", "groups", []string{"staff"}))
		p.plays("service", b)
		b.lines("events", each(p.apps.rec.each("sse:broadcast", "sse:channel:client1", "sse:group:staff"), "name", "text", "seq")...)
	})
}
