package auth

import (
	"fmt"
	"testing"
	"time"

	"sluice/shared/wire"
)

func TestRevocations(t *testing.T) {
	r := newRevocations()
	now := time.Now().Truncate(time.Second)
	f := func(want bool, subject, token string, issued time.Time) {
		t.Helper()
		if got := r.Has(r.bearer(&Identity{Subject: subject, ID: token, IssuedAt: issued})); got != want {
			t.Errorf("%q, %q, issued %s: revoked %v, want %v", subject, token, issued, got, want)
		}
	}
	add := func(v wire.Revocation) {
		t.Helper()
		before := r.Version()
		if !r.Add(v.Key(), v) || r.Version() == before {
			t.Errorf("%+v is not added", v)
		}
	}
	early, late := now.Add(-time.Hour), now.Add(time.Hour)
	f(false, "anna", "j1", early)
	add(wire.Revocation{Subject: "anna", At: now.Add(300 * time.Millisecond), Until: late})
	add(wire.Revocation{TokenID: "j1", At: now, Until: late})
	add(wire.Revocation{Subject: "over", At: now, Until: early})
	add(wire.Revocation{TokenID: "over", At: now, Until: early})
	f(true, "anna", "", early)
	f(true, "anna", "j2", now)
	f(true, "anna", "", now.Add(700*time.Millisecond)) // in the same second
	f(true, "anna", "", time.Time{})                   // nobody knows when
	f(true, "anna", "", time.Unix(-7, 0))
	f(false, "anna", "", now.Add(time.Second))
	f(true, "anna", "j1", now.Add(time.Second))
	f(true, "", "j1", late)
	f(true, "eve", "j1", late)
	f(false, "j1", "anna", early) // a subject is no token
	f(false, "", "", early)
	f(false, "over", "over", early)
	f(false, "Anna", "J1", early)
	if r.Has(Bearer{}) {
		t.Error("nobody is revoked")
	}
	r.Sweep(now)
	if r.Len() != 2 {
		t.Errorf("%d are kept, want 2", r.Len())
	}
	r.Remove(wire.SubjectKey("anna"))
	f(false, "anna", "", early)

	// There is an end to what is kept; what is there already may change.
	for i := r.Len(); i < mostRevoked; i++ {
		if !r.Add(fmt.Sprint("sub.", i), wire.Revocation{Subject: "x", Until: late}) {
			t.Fatalf("no room after %d", i)
		}
	}
	if r.Add("sub.more", wire.Revocation{Subject: "x", Until: late}) {
		t.Error("one more is kept")
	}
	add(wire.Revocation{TokenID: "j1", At: now, Until: late})
	r.Sweep(late)
	if r.Len() != 0 {
		t.Errorf("%d are left", r.Len())
	}
}
