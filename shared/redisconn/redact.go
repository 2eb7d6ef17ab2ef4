package redisconn

import (
	"net/url"
	"regexp"
	"strings"
)

// Redact is url for a log line or a status page: what stands before the last
// "@" becomes "***", and so do username= and password=. The user name goes too,
// for a password is easily put in its place ("redis://secret@host"). It also
// works for text that is no URL; in doubt it hides more.
func Redact(url string) string {
	shown, _ := withoutSecrets(url, "***")
	return shown
}

// withoutSecrets puts mark in the place of what may be secret, or cuts it out if
// mark is empty.
func withoutSecrets(raw, mark string) (bare string, hidden bool) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if scheme += "://"; !ok {
		// Not a URL at all; be careful with what stands before an "@".
		scheme, rest = "", raw
	}
	rest, hidden, lost := withoutQuerySecrets(rest, mark)
	if lost {
		return scheme + mark, true
	}
	// The secret ends at the last "@" even in a URL that net/url reads differently.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		hidden, rest = true, rest[at+1:]
		if mark != "" {
			rest = mark + "@" + rest
		}
	}
	return scheme + rest, hidden
}

// withoutQuerySecrets does so for username= and password=. It is lost if an "@"
// in them makes it unclear where the secret begins.
func withoutQuerySecrets(rest, mark string) (bare string, hidden, lost bool) {
	head, query, found := strings.Cut(rest, "?")
	if !found {
		return rest, false, false
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case isSecret(name):
			hidden = true
			if mark != "" {
				kept = append(kept, name+"="+mark)
			}
		case hidden && !harmless.MatchString(pair):
			// The rest of a password with an "&" in it.
		default:
			kept = append(kept, pair)
			continue
		}
		if strings.Contains(pair, "@") {
			return "", true, true
		}
	}
	if !hidden {
		return rest, false, false
	}
	if len(kept) == 0 {
		return head, true, false
	}
	return head + "?" + strings.Join(kept, "&"), true, false
}

// isSecret is for the name of a setting as it stands in the query.
func isSecret(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	name = strings.ToLower(name)
	return strings.Contains(name, "pass") || strings.Contains(name, "user")
}

var harmless = regexp.MustCompile(`^(addr|db|protocol|master_name|client_name|skip_verify|[a-z]+_timeout|(max|min|pool|conn)_[a-z_]+)=[^@]*$`)
