package publisher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"sluice/shared/worker"
)

const revokeUsage = `publisher revoke: tokens do not count any more, though they have not ended.

Usage:
  publisher revoke -sub SUBJECT -for TIME    all tokens of a subject that were issued up to now
  publisher revoke -jti ID -for TIME         one token

Nodes close the streams of these tokens within a second and take the tokens no more.
TIME is how long: at least as long as such tokens are valid. Revoking again takes the
place of what was; "-for 1s" takes it back. This goes to NATS, not to Redis.

Examples:
  publisher revoke -sub alice -for 24h
  publisher revoke -jti 7f3c09 -for 1h

`

// bucketName is what NATS allows.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (c command) revoke(args []string) int {
	fs := c.flags()
	subject := fs.String("sub", "", "revoke the tokens of this `SUBJECT`, as in their claim sub")
	token := fs.String("jti", "", "revoke the token with this `ID`, as in its claim jti")
	lasts := fs.Duration("for", 0, "how long it is revoked, such as 90m or 24h")
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(revokeUsage, fs)
		return worker.ExitOK
	case err != nil:
		return c.wrong(err)
	case len(rest) > 0:
		return c.wrong(fmt.Errorf("want only flags, got %d arguments %q", len(rest), rest))
	}
	r, err := newRevocation(*subject, *token, *lasts)
	if err != nil {
		return c.wrong(err)
	}
	cfg, err := c.load()
	if err != nil {
		return c.wrong(err)
	}
	if err := checkNATS(cfg.NATS, cfg.Stream); err != nil {
		return c.wrong(err)
	}
	ctx, stop := c.untilSignal()
	defer stop()
	nc, err := openNATS(ctx, cfg.NATS, "publisher", slog.New(slog.DiscardHandler))
	if err != nil {
		return c.failed(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, natsLimit)
	defer cancel()
	if err := Revoke(ctx, nc, cfg.Stream, r); err != nil {
		return c.failed(err)
	}
	until := r.Until.Format(time.RFC3339)
	if r.TokenID != "" {
		fmt.Fprintf(c.stdout, "revoked the token with the id %q until %s\n", r.TokenID, until)
	} else {
		fmt.Fprintf(c.stdout, "revoked until %s the tokens of %q that were issued up to %s\n", until, r.Subject, r.At.Format(time.RFC3339))
	}
	return worker.ExitOK
}

// failed is for what is no mistake of the user's.
func (c command) failed(err error) int {
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted: perhaps it is revoked, perhaps not")
	}
	fmt.Fprintf(c.stderr, "%s: %v\n", c.name, err)
	return worker.ExitFailed
}
