package channel

import "strings"

// OfRedis tells whether a channel is one of Redis' own: a server's notifications, or
// what sentinels say to each other at a master. Bridges mirror them only when they
// are asked to.
func OfRedis(channel string) bool {
	return strings.HasPrefix(channel, "__keyspace@") || strings.HasPrefix(channel, "__keyevent@") || channel == "__sentinel__:hello"
}
