package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/wire"
)

// RecipientsLimit is how long Recipients waits for the nodes.
const RecipientsLimit = 250 * time.Millisecond

// Recipients is how many connections, on all nodes, now listen to a channel and have
// the attributes that the criteria want; nil or {} for all. Criteria that no node would
// understand reach nobody. known is false when not all nodes have answered within
// RecipientsLimit, or nobody could be asked, as in the first second of an asker's life.
// An error means that there is no such channel.
func (a *Asker) Recipients(ctx context.Context, name string, criteria json.RawMessage) (n int, known bool, err error) {
	subject, err := channel.Subject(name)
	if err != nil {
		return 0, false, fmt.Errorf("recipients of %.100q: %w", name, err)
	}
	if criteria != nil {
		if _, err := event.ParseCriteria(criteria); err != nil {
			return 0, true, nil //nolint:nilerr // as the nodes see it
		}
	}
	ctx, cancel := context.WithTimeout(ctx, RecipientsLimit)
	defer cancel()
	answers, err := a.Ask(ctx, wire.VerbPresence, wire.Presence{Subject: subject, Criteria: criteria})
	if err != nil {
		return 0, false, nil //nolint:nilerr // who publishes cannot do anything about it
	}
	for _, p := range Bodies[wire.Present](&answers) {
		n += p.Count
	}
	if !answers.Complete {
		return 0, false, nil
	}
	return n, true, nil
}
