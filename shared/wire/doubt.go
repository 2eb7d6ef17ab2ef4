package wire

// VerbDoubt is the verb of a Doubt. Nobody answers what it asks.
const VerbDoubt = "doubt"

// Doubt is that ids between two sequences may vouch for a message that the clients who
// got them did not get: it was stored, and has not come to the node that gave them. What
// has the sequence Since is certain, and so is what has Seq.
type Doubt struct {
	Epoch string `json:"epoch"`
	Since uint64 `json:"since"`
	Seq   uint64 `json:"seq"`
}
