package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"sluice/shared/control"
	"sluice/shared/natsconn"
	"sluice/shared/wire"
)

// askAtOnce bounds the questions of one request that wait for answers.
const askAtOnce = 64

// nodes is what a server wants of the SSE nodes: how many clients listen, and that
// tokens do not count any more.
type nodes struct {
	nc    *nats.Conn
	asker *control.Asker
	names wire.Stream
}

// openNodes connects; NATS need not be there yet.
func openNodes(s natsconn.Settings, names wire.Stream, log *slog.Logger) (*nodes, error) {
	nc, err := natsconn.Open(s, "publisher", log, natsconn.Hooks{})
	if err != nil {
		return nil, err
	}
	a, err := control.New(nc, names, nil)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &nodes{nc: nc, asker: a, names: names}, nil
}

// register tells of the connection, where there is to be one.
func (n *nodes) register(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_publisher_nats_connected", Help: "1 while connected to NATS; absent with PUBLISHER_NATS=false.",
	}, func() float64 {
		if n.nc.IsConnected() {
			return 1
		}
		return 0
	}))
}

// recipients asks the nodes, of each channel with the same criteria once.
func (n *nodes) recipients(ctx context.Context, targets []target) []int {
	type key struct{ channel, criteria string }
	places := map[key][]int{}
	for i, t := range targets {
		k := key{t.channel, string(t.criteria)}
		places[k] = append(places[k], i)
	}
	counts := make([]int, len(targets))
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	for _, list := range places {
		g.Go(func() error {
			t := targets[list[0]]
			count, known, err := n.asker.Recipients(ctx, t.channel, t.criteria)
			if err != nil || !known {
				count = -1
			}
			for _, i := range list {
				counts[i] = count // each is in one list
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	return counts
}

// Errors of revoke, when nothing was revoked.
var (
	errNATSAway = errors.New("NATS is away: nothing was revoked")
	errNoNATS   = errors.New("PUBLISHER_NATS=false: nothing can be revoked")
)

// revoke tells all nodes of a revocation.
func (n *nodes) revoke(ctx context.Context, r wire.Revocation) error {
	switch {
	case n == nil:
		return errNoNATS
	case !n.nc.IsConnected():
		return errNATSAway
	}
	ctx, cancel := context.WithTimeout(ctx, natsLimit)
	defer cancel()
	return Revoke(ctx, n.nc, n.names, r)
}

// newRevocation checks what is to be revoked, and for how long from now.
func newRevocation(subject, token string, lasts time.Duration) (wire.Revocation, error) {
	switch {
	case (subject == "") == (token == ""):
		return wire.Revocation{}, errors.New("want sub or jti, one of them")
	case len(subject)+len(token) > longestName:
		return wire.Revocation{}, fmt.Errorf("%d bytes of sub or jti, want at most %d", len(subject)+len(token), longestName)
	case lasts < time.Second || lasts > wire.MaxRevoked:
		return wire.Revocation{}, fmt.Errorf("for %s: want how long it is revoked, 1s to %.0fh", lasts, wire.MaxRevoked.Hours())
	}
	now := time.Now().UTC()
	return wire.Revocation{Subject: subject, TokenID: token, At: now, Until: now.Add(lasts)}, nil
}

// checkNATS tells whether NATS can be used with these settings, and revocations be kept
// under the stream's name.
func checkNATS(s natsconn.Settings, names wire.Stream) error {
	if err := errors.Join(s.Validate(), names.Validate()); err != nil {
		return err
	}
	if !bucketName.MatchString(names.Revoked()) {
		return fmt.Errorf("STREAM_NAME=%q: a bucket cannot be named like it, want only letters, digits, - and _", names.Name)
	}
	return nil
}
