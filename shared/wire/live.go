package wire

import "encoding/json"

// What nodes are asked about the connections that live on them. Channels are named by
// their subjects, which hold any bytes as JSON cannot.

// Verbs of a Change, answered with Changed.
const (
	VerbSubscribe   = "subscribe"
	VerbUnsubscribe = "unsubscribe"
)

// Change is the body of what adds a channel to the connections of a client, or takes
// it from them.
type Change struct {
	ClientID string `json:"clientId"`
	Subject  string `json:"subject"`
	// Claims are those of a token that the asked node has verified; see Refresh.
	Claims json.RawMessage `json:"claims,omitempty"`
}

// Changed is what one node did.
type Changed struct {
	Connections int `json:"connections,omitempty"` // for which it is as it was asked for, or will be
	Full        int `json:"full,omitempty"`        // that have as many channels as they may
	Behind      int `json:"behind,omitempty"`      // so slow that too many changes wait already
	Late        int `json:"late,omitempty"`        // because the channel's place in the stream is not known yet
	Longer      int `json:"longer,omitempty"`      // whose token ends later than the one that was shown
}

// Add sums up what nodes did.
func (c *Changed) Add(d Changed) {
	c.Connections += d.Connections
	c.Full += d.Full
	c.Behind += d.Behind
	c.Late += d.Late
	c.Longer += d.Longer
}

// VerbPresence is the verb of a Presence, answered with Present.
const VerbPresence = "presence"

// MostListed is how many clients are listed at most.
const MostListed = 1000

// Presence asks who listens to a channel, by its name or by a pattern.
type Presence struct {
	Subject string `json:"subject"`
	// Criteria, an object as in an envelope, count only the clients that they hold for.
	Criteria json.RawMessage `json:"criteria,omitempty"`
	List     bool            `json:"list,omitempty"` // not only how many
}

// Present is what one node says.
type Present struct {
	Count   int             `json:"count"`             // connections, each once
	Clients []PresentClient `json:"clients,omitempty"` // at most MostListed, and as many as fit
}

// PresentClient is one connection.
type PresentClient struct {
	ClientID    string  `json:"clientId"`
	Subject     *string `json:"subject"` // of its token; nil: nobody's
	Node        string  `json:"node"`
	ConnectedAt string  `json:"connectedAt"` // RFC 3339, to the second
	Status      string  `json:"status"`
}

// VerbClients is the verb of a Clients, answered with Connections.
const VerbClients = "clients"

// Clients asks for the streams of a client.
type Clients struct {
	ClientID string `json:"clientId"`
	List     bool   `json:"list,omitempty"` // not only how many
}

// Connections are those of a client on one node.
type Connections struct {
	Count int          `json:"count"`
	List  []Connection `json:"list,omitempty"`
	Cut   bool         `json:"cut,omitempty"` // there are more than fit into an answer
}

// Connection is one stream.
type Connection struct {
	Node         string   `json:"node"`
	PodName      string   `json:"podName"`
	RegisteredAt string   `json:"registeredAt"` // RFC 3339, to the second
	Status       string   `json:"status"`
	Channels     []string `json:"channels"`
	Patterns     []string `json:"patterns"`
}
