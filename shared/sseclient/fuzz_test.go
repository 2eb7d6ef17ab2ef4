package sseclient

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// reference reads a whole stream in the plainest way, to compare with.
func reference(in string) (events []Event) {
	in = strings.TrimPrefix(in, "\uFEFF")
	in = strings.ReplaceAll(strings.ReplaceAll(in, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(in, "\n")
	var block []string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		if line != "" {
			block = append(block, line)
		} else if block != nil {
			events = append(events, referenceBlock(block))
			block = nil
		}
	}
	return events
}

func referenceBlock(lines []string) (e Event) {
	var data, comments []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "" && strings.HasPrefix(line, ":"):
			comments = append(comments, value)
		case name == "data":
			data, e.HasData = append(data, value), true
		case name == "event":
			e.Name = value
		case name == "id" && !strings.Contains(value, "\x00"):
			e.ID, e.HasID = value, true
		case name == "retry" && value != "" && strings.Trim(value, "0123456789") == "":
			e.Retry, _ = parseRetry([]byte(value))
			e.HasRetry = true
		}
	}
	e.Data, e.Comment = strings.Join(data, "\n"), strings.Join(comments, "\n")
	return e
}

// FuzzReader: whatever the bytes and however they arrive, no panic, and the
// same events as from the reference.
func FuzzReader(f *testing.F) {
	for _, tc := range streams {
		f.Add(tc.in, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in string, size uint8) {
		want := reference(in)
		for name, src := range map[string]io.Reader{
			"whole":         strings.NewReader(in),
			"byte by byte":  iotest.OneByteReader(strings.NewReader(in)),
			"with the end":  iotest.DataErrReader(strings.NewReader(in)),
			"pieces":        &pieces{s: in, n: int(size)},
			"empty between": &pieces{s: in, n: int(size), gaps: true},
		} {
			if got, err := readAll(NewReader(src)); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q %s: %+v, %v, want %+v", in, name, got, err, want)
			}
		}
	})
}

// pieces hands out n bytes at a time, and nothing at every second call if asked.
type pieces struct {
	s         string
	n         int
	gaps, gap bool
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.gap = !p.gap; p.gaps && p.gap {
		return 0, nil
	}
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b, p.s[:min(len(p.s), max(1, p.n))])
	p.s = p.s[n:]
	return n, nil
}
