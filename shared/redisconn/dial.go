package redisconn

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/certs"
)

// dialer dials as go-redis does, but obeys the context during a TLS handshake
// too, and uses the files as they are at that time.
func dialer(o *redis.Options, files certs.Client) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{
		Timeout: max(o.DialTimeout, 0), // negative is go-redis' "none"
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		},
	}
	if o.TLSConfig == nil {
		return d.DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		cfg, err := files.Extend(o.TLSConfig)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, network, addr)
	}
}
