// Package embedded starts NATS and Redis servers for tests and local runs: NATS
// in this process or as a child process, Redis as a child process or, where
// there is no redis-server, as miniredis in this process. No shipped program
// imports it.
//
// # Where miniredis is not Redis
//
// miniredis 2.40.0 against Redis 7.0.15; what is not marked "from reading" is in
// this package's tests or was run once. Binary names and payloads, the order
// within one subscription, PING while subscribed and CLIENT SETNAME agree.
//
//   - A message that matches several patterns of one connection comes once,
//     with any one of them; Redis sends a copy for each.
//   - From reading: copies for channels and for patterns come through different
//     goroutines, so a connection with both kinds of subscription can get two
//     messages in the wrong order.
//   - PUBLISH waits for slow subscribers while it holds the server's one lock.
//     A stuck subscriber stops everything; Redis would disconnect it.
//   - Patterns match characters, not bytes: "?" takes a whole "é", and "??" does
//     not match it.
//   - "*" matches the channel with the empty name. In Redis it does not.
//   - Inside brackets Go's regexp rules hold: "[\d]" is a digit and "[a-]" has a
//     "-" (in Redis: the letter d; the range from "]" to "a").
//   - A pattern with a final "\" matches nothing; in Redis it is that character.
//   - These patterns are a panic, which ends this process: "[c-a]" and other
//     descending ranges, "[^]" and "[^]a]", "[[:alpha:]]", two backslashes before
//     an E, and anything that is not UTF-8.
//   - The name in HELLO … SETNAME, which go-redis sends, is ignored.
//   - HELLO reads the password without a lock: set it before the start.
//   - From reading: CLIENT has only SETNAME and GETNAME, so no KILL and no LIST;
//     there is no SSUBSCRIBE, SPUBLISH, RESET, ACL, ROLE, keyspace notification,
//     and no limit on output buffers.
package embedded
