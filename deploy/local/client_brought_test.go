package main

import (
	"fmt"
	"testing"
)

// A channel that the connection has without asking is listened to at once: the server
// tells nothing of it. Once it was taken away it comes like any other.
func TestClientBrought(t *testing.T) {
	p := newPages(t, 1, "SSENODE_AUTO_CHANNELS=all,own:{clientId}")
	connects := func() float64 { return p.nodes[0].metric("sluice_ssenode_connects_total") }
	b := p.tab(t)
	b.begin(p.server, `{}`, "x")
	b.positioned()
	before := connects()
	b.run(`window.ends = [sluice.subscribe("all", note), sluice.subscribe("own:" + sluice.status.clientId, note)]`, nil)
	b.open()
	p.publish("all", "1")
	b.until(`got.length === 1 && got[0].data === 1`)
	var id string
	b.run(`sluice.status.clientId`, &id)
	p.publish("own:"+id, "2")
	b.until(`got.length === 2 && got[1].data === 2`)
	b.run(`ends[0]()`, nil)
	eventually(t, "it is taken away", func() bool { return p.nodes[0].metric("sluice_ssenode_unsubscribed_total") == 1 })
	p.publish("all", "3")
	p.publish("own:"+id, "4")
	b.until(`got.length === 3 && got[2].data === 4`)
	stop := p.numbers("all")
	b.run(`got.length = 0, sluice.subscribe("all", note)`, nil)
	b.open()
	b.until(`got.length > 50`)
	b.until(fmt.Sprintf(`got.at(-1).data === %d`, stop()-1))
	var whole bool
	if b.run(`got.every((e, i) => e.data === got[0].data + i)`, &whole); !whole {
		t.Error("some are missing, or came twice")
	}
	if n := connects(); n != before {
		t.Errorf("%v connections, want %v", n, before)
	}
}
