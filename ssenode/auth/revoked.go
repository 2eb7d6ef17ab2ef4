package auth

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"sluice/shared/wire"
)

// mostRevoked bounds what a node keeps: more than a bucket of wire.RevokedBytes has.
const mostRevoked = 1 << 19

// Revocations are the subjects and tokens that do not count, whatever their tokens
// say. They are for all goroutines.
type Revocations struct {
	seed    maphash.Seed // nobody can make names that share a hash
	version atomic.Uint64

	mu   sync.RWMutex // guards the following field
	list map[uint64]revoked
}

// revoked is in seconds since 1970.
type revoked struct {
	at    int64 // tokens of a subject that were issued up to then; of a token none is later
	until int64
}

func newRevocations() *Revocations {
	return &Revocations{seed: maphash.MakeSeed(), list: map[uint64]revoked{}}
}

// Bearer is what of an identity has to be kept to know when it is revoked. The zero
// value is nobody, who never is.
type Bearer struct {
	subject, token uint64 // hashes, 0: none
	issued         uint32 // seconds since 1970, 0: unknown
}

// SameSubject tells whether two act for the same.
func (b Bearer) SameSubject(c Bearer) bool { return b.subject == c.subject }

// HasSubject tells whether it acts for somebody.
func (b Bearer) HasSubject() bool { return b.subject != 0 }

func (r *Revocations) bearer(id *Identity) (b Bearer) {
	if id.Subject != "" {
		b.subject = maphash.String(r.seed, wire.SubjectKey(id.Subject))
	}
	if id.ID != "" {
		b.token = maphash.String(r.seed, wire.TokenKey(id.ID))
	}
	if !id.IssuedAt.IsZero() {
		b.issued = uint32(max(0, min(math.MaxUint32, id.IssuedAt.Unix())))
	}
	return b
}

// Has tells whether the bearer's token is revoked.
func (r *Revocations) Has(b Bearer) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.list) == 0 {
		return false
	}
	now := time.Now().Unix()
	if x, there := r.list[b.subject]; there && b.subject != 0 && int64(b.issued) <= x.at && now < x.until {
		return true
	}
	x, there := r.list[b.token]
	return there && b.token != 0 && now < x.until
}

// Add takes over what the bucket has under a key; the last one counts. It returns
// false when there is no room.
func (r *Revocations) Add(key string, v wire.Revocation) bool {
	x := revoked{at: math.MaxInt64, until: v.Until.Unix()}
	if v.TokenID == "" {
		x.at = v.At.Unix()
	}
	hash := maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.list[hash]; !there && len(r.list) >= mostRevoked {
		return false
	}
	r.list[hash] = x
	r.version.Add(1)
	return true
}

// Remove forgets a key.
func (r *Revocations) Remove(key string) {
	hash := maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.list, hash)
}

// Sweep forgets what is over by now.
func (r *Revocations) Sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for hash, x := range r.list {
		if x.until <= now.Unix() {
			delete(r.list, hash)
		}
	}
}

// Version changes whenever somebody may be revoked who was not before.
func (r *Revocations) Version() uint64 { return r.version.Load() }

// Len is how many there are.
func (r *Revocations) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.list)
}
