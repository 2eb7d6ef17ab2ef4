package ssenode

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/shared/event"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// breaks replaces every kind of line break by \n, as a browser does.
var breaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// Whatever the payload, a reader gets one event back: the data with its line
// breaks unified, the id, nothing else.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"", "a", "a\nb", "\r", "\n\r", "\r\n\r", " x", ":x", "id: 7", "data: x\n\n", "\xff", `{"event":"e","data":"d"}`, "\x00", "\ufeff"} {
		f.Add([]byte(seed), uint64(7))
	}
	f.Fuzz(func(t *testing.T, payload []byte, seq uint64) {
		ev, err := event.Parse(payload, event.Auto)
		if err != nil {
			t.Fatal(err)
		}
		id := wire.ID{Epoch: "e1", Seq: seq}
		fr := newFrame(id, ev, "a:b", true)
		fr.subject = "a.b"
		got := readOne(t, fr.plain)
		wantName := ev.Name
		if got.Name != wantName || got.Data != breaks.Replace(string(ev.Data)) {
			t.Fatalf("payload %q: got name %q data %q", payload, got.Name, got.Data)
		}
		if seq == 0 && got.HasID || seq != 0 && got.ID != id.String() {
			t.Fatalf("id %q of sequence %d", got.ID, seq)
		}
		if noID := readOne(t, fr.plain[fr.idLen:]); noID.HasID || noID.Data != got.Data {
			t.Fatalf("without id: %+v", noID)
		}
		for _, form := range [][]byte{fr.wrapped, fr.wrapLate()} {
			w := readOne(t, form)
			var e envelope
			if err := json.Unmarshal([]byte(w.Data), &e); err != nil || e.Channel != "a:b" || w.Name != "" || w.ID != got.ID {
				t.Fatalf("wrapped %q: %v", form, err)
			}
			if (e.Event == nil) != (ev.Name == "") {
				t.Fatalf("wrapped %q: event of name %q", form, ev.Name)
			}
		}
	})
}

func readOne(t *testing.T, b []byte) sseclient.Event {
	t.Helper()
	r := sseclient.NewReader(bytes.NewReader(b))
	ev, err := r.Next()
	if err != nil || !ev.Dispatched() {
		t.Fatalf("frame %q: %+v, %v", b, ev, err)
	}
	if more, err := r.Next(); err == nil {
		t.Fatalf("frame %q: a second event %+v", b, more)
	}
	return ev
}

// The worst mixture of line breaks takes time in proportion to its length.
func TestEncodingIsLinear(t *testing.T) {
	data := bytes.Repeat([]byte{'\r'}, 4<<20)
	data[len(data)-1] = '\n'
	start := time.Now()
	appendData(nil, data)
	if took := time.Since(start); took > wait { // quadratic takes minutes
		t.Errorf("4 MiB of line breaks took %s", took)
	}
}

func TestPrintable(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		if got := printable(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	f("ü:%", "ü:%")
	f("a\xffb", "a%FFb")
	f("\x00", "\x00")
}
