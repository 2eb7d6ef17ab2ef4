package program

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A program reads what it is given and nothing else, and the old environment comes back.
func TestRead(t *testing.T) {
	t.Setenv("SSENODE_DRAIN_DELAY", "1m")
	f, err := All["ssenode"].Read(map[string]string{"SSENODE_ADDR": ":1", "SSENODE_DRAIN_TIME": "7s", "SSENODE_MAX_CONNECTIONS": "3"})
	if err != nil || f.Most != 3 || f.Drain != 12*time.Second || f.Ports["http"] != ":1" || f.Ports["admin"] != "127.0.0.1:9102" {
		t.Errorf("%+v, %v", f, err)
	}
	if os.Getenv("SSENODE_DRAIN_DELAY") != "1m" || os.Getenv("SSENODE_ADDR") != "" {
		t.Error("the environment is another one")
	}
	for name, url := range map[string]string{"bridge": "NATS_URL", "publisher": "REDIS_URL"} {
		if _, err := All[name].Read(map[string]string{url: "nowhere"}); err == nil || !strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := All["publisher"]; !p.Knows("PUBLISHER_ADDR") || p.Knows("SSENODE_ADDR") {
		t.Error("the publisher knows other settings than its own")
	}
}
