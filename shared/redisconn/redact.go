package redisconn

import "strings"

// Redact is url for a log line or a status page: what stands before the last
// "@" becomes "***". The user name goes too, for a password is easily put in
// its place ("redis://secret@host"). It also works for text that is no URL.
func Redact(url string) string {
	bare, found := withoutUserinfo(url)
	if !found {
		return url
	}
	if scheme, rest, ok := strings.Cut(bare, "://"); ok {
		return scheme + "://***@" + rest
	}
	return "***@" + bare
}
