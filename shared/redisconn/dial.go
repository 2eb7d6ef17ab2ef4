package redisconn

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialer dials as go-redis does, but obeys the context during a TLS handshake
// too.
func dialer(o *redis.Options) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{
		Timeout: max(o.DialTimeout, 0), // negative is go-redis' "none"
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		},
	}
	if o.TLSConfig == nil {
		return d.DialContext
	}
	return (&tls.Dialer{NetDialer: d, Config: o.TLSConfig}).DialContext
}
