package yard

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
)

// Receive takes all messages from Redis and does nothing with them. It tells how
// many it has taken on a port of its own.
func Receive(ln net.Listener, redisURL string) error {
	o, err := redis.ParseURL(redisURL)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	sub := redis.NewClient(o).PSubscribe(context.Background(), "*")
	if _, err := sub.Receive(context.Background()); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	var n atomic.Uint64
	go tell(ln, &n)
	for {
		if _, err := sub.ReceiveMessage(context.Background()); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		n.Add(1)
	}
}

// Publish fills a stream that is there already, with so many messages under way at a
// time, and does nothing else: no fence, no digest, no order after an error.
func Publish(ln net.Listener, natsURL, prefix string, payload []byte, channels, window int) error {
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var acked atomic.Uint64
	room := make(chan struct{}, 1)
	inbox := nats.NewInbox()
	_, err = nc.Subscribe(inbox, func(*nats.Msg) {
		acked.Add(1)
		select {
		case room <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	subjects := make([]string, channels)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	go tell(ln, &acked)
	for sent := uint64(0); ; sent++ {
		for sent-acked.Load() >= uint64(window) {
			select {
			case <-room:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("publish: %d of %d were acknowledged", acked.Load(), sent)
			}
		}
		if err := nc.PublishRequest(subjects[sent%uint64(channels)], inbox, payload); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
}

// tell answers every request with the number.
func tell(ln net.Listener, n *atomic.Uint64) {
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s %d\n", Count, n.Load()) }))
}

// Count is the name under which Receive and Publish tell their number.
const Count = "messages_total"
