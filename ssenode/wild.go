package ssenode

import "bytes"

// wild finds the topics with wildcards that match a subject, at the cost of the
// subject's tokens rather than of the topics. The hub's lock guards it.
type wild struct {
	root wildNode
	all  map[string]*topic // by subject
}

type wildNode struct {
	next  map[string]*wildNode // by token, "*" included
	ends  *topic               // a pattern that ends here
	below *topic               // a pattern that ends here with ">"
}

func (w *wild) add(t *topic) {
	if w.all == nil {
		w.all = map[string]*topic{}
	}
	w.all[t.subject()] = t
	n := &w.root
	for token := range bytes.SplitSeq([]byte(t.subject()), []byte{'.'}) {
		if string(token) == ">" {
			n.below = t
			return
		}
		next := n.next[string(token)]
		if next == nil {
			if n.next == nil {
				n.next = map[string]*wildNode{}
			}
			next = &wildNode{}
			n.next[string(token)] = next
		}
		n = next
	}
	n.ends = t
}

func (w *wild) remove(t *topic) {
	delete(w.all, t.subject())
	w.root.remove([]byte(t.subject()))
}

// remove returns true when the node is of no use any more.
func (n *wildNode) remove(rest []byte) bool {
	token, after, more := bytes.Cut(rest, []byte{'.'})
	switch {
	case string(token) == ">":
		n.below = nil
	case n.next[string(token)] == nil:
	default:
		next := n.next[string(token)]
		if !more {
			next.ends = nil
		} else if !next.remove(after) {
			break
		}
		if next.empty() {
			delete(n.next, string(token))
		}
	}
	return n.empty()
}

func (n *wildNode) empty() bool { return n.ends == nil && n.below == nil && len(n.next) == 0 }

// match calls f for each topic whose pattern matches the subject.
func (w *wild) match(subject []byte, f func(*topic)) {
	if len(w.all) > 0 {
		w.root.match(subject, f)
	}
}

func (n *wildNode) match(rest []byte, f func(*topic)) {
	if n.below != nil {
		f(n.below)
	}
	token, after, more := bytes.Cut(rest, []byte{'.'})
	for _, next := range [2]*wildNode{n.next[string(token)], n.next["*"]} {
		switch {
		case next == nil:
		case more:
			next.match(after, f)
		case next.ends != nil:
			f(next.ends)
		}
	}
}
