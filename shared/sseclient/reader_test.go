package sseclient

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readAll reads blocks until the first error, which is nil for a clean end.
func readAll(r *Reader) ([]Event, error) {
	var events []Event
	for {
		e, err := r.Next()
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// page is what a page would see of the stream: the data of each dispatched
// event, with its name in front if it has one.
func page(events []Event) []string {
	seen := []string{}
	for _, e := range events {
		if !e.Dispatched() {
			continue
		}
		if e.Name != "" {
			e.Data = e.Name + "|" + e.Data
		}
		seen = append(seen, e.Data)
	}
	return seen
}

// streams are the cases of web-platform-tests' eventsource/format-*, then our
// own. Each is also read cut at every byte, and seeds the fuzz test.
var streams = []struct {
	name, in string
	want     []string
	lastID   string
}{
	{"bom", "\uFEFFdata:1\n\n\uFEFFdata:2\n\ndata:3\n\n", []string{"1", "3"}, ""},
	{"bom twice", "\uFEFF\uFEFFdata:1\n\ndata:2\n\n", []string{"2"}, ""},
	{"bom alone on its line", "\uFEFF\n\uFEFFdata:1\n\ndata:2\n\n", []string{"2"}, ""},
	{"comments", "data:1\r:\x00\n:\r\ndata:2\n:" + strings.Repeat("x", 3000) + "\rdata:3\n:data:fail\r:y\rdata:4\n\n\n", []string{"1\n2\n3\n4"}, ""},
	{"data before final empty line", "retry:1000\ndata:test1\n\nid:test\ndata:test2", []string{"test1"}, ""},
	{"data before final line end", "data:1\n\nid:x\ndata:2\n", []string{"1"}, ""},
	{"data", "data:\n\ndata\ndata\n\ndata:test\n\n", []string{"", "\n", "test"}, ""},
	{"event", "event:test\ndata:x\n\ndata:y\n\n", []string{"test|x", "y"}, ""},
	{"event empty", "event: \ndata:data\n\n", []string{"data"}, ""},
	{"event last wins", "event:a\nevent:b\ndata:x\n\n", []string{"b|x"}, ""},
	{"event of undispatched block is forgotten", "event:a\n\ndata:x\n\n", []string{"x"}, ""},
	{"id", "data:1\nid:1\n\ndata:2\n\n", []string{"1", "2"}, "1"},
	{"id not ascii", "id: …\ndata:1\n\n", []string{"1"}, "…"},
	{"id null", "id:1\ndata:1\n\nid:2\x003\ndata:2\n\n", []string{"1", "2"}, "1"},
	{"id reset", "id:1\ndata:1\n\nid\ndata:2\n\n", []string{"1", "2"}, ""},
	{"id without data", "id: 7-42\n\n", []string{}, "7-42"},
	{"field parsing", "data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n", []string{"\x00\n 2\n1\n3\n\n4"}, ""},
	{"unknown fields", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:comment\ndata:test\n\n", []string{"test\n\ntest"}, ""},
	{"leading space", "data:\ttest\rdata: \ndata:test\n\n", []string{"\ttest\n\ntest"}, ""},
	{"newlines", "data:test\r\ndata\ndata:test\r\n\r", []string{"test\n\ntest"}, ""},
	{"null character", "data:\x00\n\n\n\n", []string{"\x00"}, ""},
	{"utf-8", "data:ok…\n\n", []string{"ok…"}, ""},
	{"cr cr", "data:1\r\rdata:2\r\r", []string{"1", "2"}, ""},
	{"crlf", "data:1\r\n\r\ndata:2\r\n\r\n", []string{"1", "2"}, ""},
	{"lf cr is two ends", "data:1\n\rdata:2\n\r", []string{"1", "2"}, ""},
	{"only blank lines", "\n\r\r\n\n", []string{}, ""},
	{"empty", "", []string{}, ""},
	{"colon in value", "data:a:b: c\n\n", []string{"a:b: c"}, ""},
	{"bytes that are not utf-8", "data:\xff\xfe\n\n", []string{"\xff\xfe"}, ""},
}

func TestReaderDispatchesWhatABrowserDoes(t *testing.T) {
	for _, tc := range streams {
		r := NewReader(strings.NewReader(tc.in))
		events, err := readAll(r)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := page(events); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: page sees %q, want %q", tc.name, got, tc.want)
		}
		if r.LastEventID() != tc.lastID {
			t.Errorf("%s: last event id %q, want %q", tc.name, r.LastEventID(), tc.lastID)
		}
	}
}

// TestReaderCutAnywhere cuts each stream in two at every byte.
func TestReaderCutAnywhere(t *testing.T) {
	for _, tc := range streams {
		want, _ := readAll(NewReader(strings.NewReader(tc.in)))
		for i := range len(tc.in) {
			src := io.MultiReader(strings.NewReader(tc.in[:i]), strings.NewReader(tc.in[i:]))
			if got, err := readAll(NewReader(src)); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s cut at %d: %+v, %v, want %+v", tc.name, i, got, err, want)
			}
		}
	}
}

func TestReaderShowsWhatAPageCannotSee(t *testing.T) {
	in := ":one\n: two\n\nid:5\n\nid\n\nretry:250\n\nnonsense\n\nid:6\nevent:e\ndata\nretry:0\n:c\n\n"
	got, err := readAll(NewReader(strings.NewReader(in)))
	want := []Event{
		{Comment: "one\ntwo"},
		{ID: "5", HasID: true},
		{HasID: true},
		{Retry: 250 * time.Millisecond, HasRetry: true},
		{},
		{ID: "6", HasID: true, Name: "e", HasData: true, HasRetry: true, Comment: "c"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestReaderRetry(t *testing.T) {
	f := func(value string, want time.Duration, ok bool) {
		t.Helper()
		r := NewReader(strings.NewReader(value + "\n"))
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%q: %v", value, err)
		}
		// The block is not complete, and still the time counts.
		if got, has := r.Retry(); got != want || has != ok {
			t.Errorf("%q: %v %v, want %v %v", value, got, has, want, ok)
		}
	}
	f("retry:03000", 3*time.Second, true)
	f("retry: 7", 7*time.Millisecond, true)
	f("retry:  7", 0, false)
	f("retry:1000x", 0, false)
	f("retry:-1", 0, false)
	f("retry:1.5", 0, false)
	f("retry:٣", 0, false)
	f("retry:", 0, false)
	f("retry", 0, false)
	f("retry:99999999999999999999999999", math.MaxInt64, true)
}

// An event must come out as soon as its blank line is there, though the CR that
// ended it may be half of a CRLF.
func TestReaderDoesNotWaitForTheNextByte(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n"} {
		src := io.MultiReader(strings.NewReader("data:1"+end+end), iotest.ErrReader(errors.New("read too far")))
		if e, err := NewReader(src).Next(); err != nil || e.Data != "1" {
			t.Errorf("end %q: %+v, %v", end, e, err)
		}
	}
}

func TestReaderGoesOnAfterADeadline(t *testing.T) {
	// The deadline comes with bytes, which count first.
	src := io.MultiReader(&failOnce{text: "id:1\n\nid:2\nda"}, strings.NewReader("ta:x\n\n"))
	r := NewReader(src)
	if e, err := r.Next(); err != nil || e.ID != "1" {
		t.Fatalf("first: %+v, %v", e, err)
	}
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("second: %v", err)
	}
	if e, err := r.Next(); err != nil || e.Data != "x" || e.ID != "2" {
		t.Fatalf("third: %+v, %v", e, err)
	}
}

type failOnce struct{ text string }

func (f *failOnce) Read(p []byte) (int, error) {
	if f.text == "" {
		return 0, io.EOF
	}
	n := copy(p, f.text)
	f.text = ""
	return n, os.ErrDeadlineExceeded
}

func TestReaderBounds(t *testing.T) {
	f := func(in string, events int, want error) {
		t.Helper()
		for _, src := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			r := NewReader(src)
			r.MaxEvent = 10
			got, err := readAll(r)
			if len(got) != events || !errors.Is(err, want) {
				t.Errorf("%q: %d events, %v, want %d, %v", in, len(got), err, events, want)
			}
			if _, again := r.Next(); want != nil && again != want {
				t.Errorf("%q: the error is not final: %v", in, again)
			}
		}
	}
	f("data:12345\n\ndata:12345\n\n", 2, nil)
	f("data:12345\n\ndata:123456\n\n", 1, ErrTooLarge)
	f("data:12345\n:\n\n", 0, ErrTooLarge)
	f(strings.Repeat(":\n", 11), 0, ErrTooLarge)
	f(strings.Repeat("x", 11), 0, ErrTooLarge)
	f(strings.Repeat("\n", 50), 0, nil)
}

func TestReaderDefaultBound(t *testing.T) {
	fits := "data:" + strings.Repeat("x", DefaultMaxEvent-5) + "\n\n"
	if got, err := readAll(NewReader(strings.NewReader(fits + fits))); len(got) != 2 || err != nil {
		t.Errorf("%d events, %v", len(got), err)
	}
	if _, err := readAll(NewReader(strings.NewReader("x" + fits))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte over the limit: %v", err)
	}
}

func TestReaderAllocations(t *testing.T) {
	one := []byte("id: 0f3a-1234567\nevent: gap\ndata: some payload\n\n")
	r := NewReader(&endless{one: one})
	if n := testing.AllocsPerRun(1000, func() { _, _ = r.Next() }); n > 2 {
		t.Errorf("%v allocations per event, want 2: id and data", n)
	}
}

type endless struct {
	one []byte
	r   bytes.Reader
}

func (e *endless) Read(p []byte) (int, error) {
	if e.r.Len() == 0 {
		e.r.Reset(e.one)
	}
	return e.r.Read(p)
}

func BenchmarkReader(b *testing.B) {
	one := []byte("id: 0f3a-1234567\ndata: " + strings.Repeat("x", 200) + "\n\n")
	r := NewReader(&endless{one: bytes.Repeat(one, 100)})
	b.SetBytes(int64(len(one)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
