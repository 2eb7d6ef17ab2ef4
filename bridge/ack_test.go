package bridge

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// Answers of the stream, the usual one and all others, are read alike.
func TestParseAck(t *testing.T) {
	f := func(data, status string, seq uint64, wrong bool) {
		t.Helper()
		m := &nats.Msg{Data: []byte(data), Header: nats.Header{}}
		if status != "" {
			m.Header.Set("Status", status)
		}
		if a, err := parseAck(m); a.Seq != seq || (err != nil) != wrong {
			t.Errorf("%s: %d, %v; want %d, an error: %v", data, a.Seq, err, seq, wrong)
		}
	}
	f(`{"stream":"SLUICE","seq":18446744073709551615}`, "", 1<<64-1, false)
	f(`{"stream":"SLUICE", "seq":7}`, "", 7, false)
	f(`{"stream":"SLUICE","seq":7,"duplicate":true}`, "", 7, false)
	f(`{"stream":"SLUICE","domain":"hub","seq":7}`, "", 7, false)
	f(`{"seq":7,"stream":"SLUICE"}`, "", 7, false)
	f(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 9"},"stream":"SLUICE","seq":0}`, "", 0, true)
	f(`{"stream":"SLUICE","seq":7`, "", 0, true)
	f(`{"stream":"SLUICE","seq":-7}`, "", 0, true)
	f(``, "503", 0, true)
}
