package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"
)

const (
	// askEvery is the least time between two requests that unknown keys cause:
	// anybody can name one.
	askEvery = 10 * time.Second
	// askTime bounds a request, and so how long a client waits for it.
	askTime = 5 * time.Second
	// setBytes bounds a key set.
	setBytes = 1 << 20
	// retryLeast and retryMost are between two tries while the address fails.
	retryLeast, retryMost = time.Second, 30 * time.Second
)

// jwks are the keys behind an address. Those that were had last are used for as
// long as it cannot be reached.
type jwks struct {
	url    string
	client *http.Client
	every  time.Duration // between two fetches
	pause  time.Duration // askEvery; tests have less
	log    *slog.Logger

	ended context.Context // when the node ends
	end   context.CancelFunc

	set    atomic.Pointer[keySet]
	flight singleflight.Group // one fetch at a time, and all wait for it

	// Owned by the flight.
	asked time.Time // when the last one began
	wrong bool      // the last one failed
}

// keySet is what was had last.
type keySet struct {
	keyfunc.Keyfunc
	n int // usable keys
}

func newJWKS(s *Settings, log *slog.Logger) *jwks {
	j := &jwks{url: s.JWKS.URL, every: s.JWKS.Refresh, pause: askEvery, log: log,
		client: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}}
	j.ended, j.end = context.WithCancel(context.Background())
	return j
}

// run keeps the set fresh until the context ends.
func (j *jwks) run(ctx context.Context) {
	defer j.end()
	defer context.AfterFunc(ctx, j.end)() // so that a request in work ends, too
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := retryLeast
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := j.every
		if err := j.refresh(0); err != nil {
			next = min(j.every, retry)
			retry = min(2*retry, retryMost)
		} else {
			retry = retryLeast
		}
		timer.Reset(next)
	}
}

// key returns the keys that a token may be signed with.
func (j *jwks) key(t *jwt.Token) (any, error) {
	if _, ok := t.Header["kid"]; ok && !isText(t.Header["kid"]) {
		return nil, jwt.ErrTokenMalformed
	}
	if keys := j.known(t); len(keys.Keys) > 0 {
		return keys, nil
	}
	// One that is new, perhaps: signers announce keys before they use them, but
	// not always ten minutes before.
	err := j.refresh(j.pause)
	if keys := j.known(t); len(keys.Keys) > 0 {
		return keys, nil
	}
	if err != nil || j.set.Load() == nil {
		return nil, ErrNoKeys // whether it is one cannot be said
	}
	return nil, errors.New("no such key")
}

func isText(v any) bool { _, ok := v.(string); return ok }

// known are the keys that are there and fit the token: the one it names, or all
// if it names none.
func (j *jwks) known(t *jwt.Token) (fitting jwt.VerificationKeySet) {
	set := j.set.Load()
	if set == nil {
		return fitting
	}
	found, err := set.Keyfunc.Keyfunc(t)
	if err != nil {
		return fitting
	}
	all, ok := found.(jwt.VerificationKeySet)
	if !ok {
		all.Keys = []jwt.VerificationKey{found}
	}
	for _, k := range all.Keys {
		if fits(t.Method, k) {
			fitting.Keys = append(fitting.Keys, k)
		}
	}
	return fitting
}

// refresh fetches the set unless that was done within the pause; who comes while
// it is fetched waits for that. The error is that of the last fetch.
func (j *jwks) refresh(pause time.Duration) error {
	_, err, _ := j.flight.Do("", func() (any, error) {
		if j.asked.IsZero() || time.Since(j.asked) >= pause {
			j.asked = time.Now()
			j.note(j.fetch())
		}
		if j.wrong {
			return nil, ErrNoKeys
		}
		return nil, nil
	})
	return err
}

// note logs the first failure after success, and the end of it.
func (j *jwks) note(err error) {
	switch {
	case err != nil && j.ended.Err() != nil:
	case err != nil && !j.wrong:
		had := 0
		if s := j.set.Load(); s != nil {
			had = s.n
		}
		j.log.Warn("the keys that tokens are signed with cannot be fetched, trying on", "setting", "SSENODE_JWKS_URL", "error", err, "known", had)
	case err == nil && j.wrong:
		j.log.Info("the keys that tokens are signed with are fetched again", "keys", j.set.Load().n)
	}
	j.wrong = err != nil
}

func (j *jwks) fetch() error {
	ctx, cancel := context.WithTimeout(j.ended, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return errors.New("no address")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := j.client.Do(req)
	if err != nil {
		var u *url.Error // has the address, which may hold a password
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: want 200", resp.StatusCode)
	}
	var listed struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, setBytes)).Decode(&listed); err != nil || listed.Keys == nil {
		return errors.New(`the answer is no key set: want {"keys":[…]}`)
	}
	set := &keySet{}
	storage := jwkset.NewMemoryStorage()
	for i, raw := range *listed.Keys {
		// One that nobody understands does not make the others worthless.
		key, err := usable(raw)
		if err != nil {
			j.log.Debug("key of SSENODE_JWKS_URL left out", "index", i, "error", err)
			continue
		}
		if err := storage.KeyWrite(ctx, key); err != nil {
			return err
		}
		set.n++
	}
	if set.Keyfunc, err = keyfunc.New(keyfunc.Options{Ctx: j.ended, Storage: storage}); err != nil {
		return err
	}
	if set.n == 0 {
		j.log.Warn("no usable key at SSENODE_JWKS_URL: nobody can sign in", "listed", len(*listed.Keys))
	}
	j.set.Store(set)
	return nil
}

// usable reads a key of a set if it is a public one that signs.
func usable(raw json.RawMessage) (jwkset.JWK, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return jwkset.JWK{}, errors.New("not a key")
	}
	if m.USE != "" && m.USE != jwkset.UseSig {
		return jwkset.JWK{}, fmt.Errorf("its use is %q: want sig", m.USE)
	}
	if m.KTY == jwkset.KtyOct {
		return jwkset.JWK{}, errors.New("a shared secret: want public keys")
	}
	return jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{Private: true}, jwkset.JWKValidateOptions{})
}

// ready says why tokens cannot be judged, or nil.
func (j *jwks) ready() error {
	if j.set.Load() == nil {
		return errors.New("no keys from SSENODE_JWKS_URL yet")
	}
	return nil
}
