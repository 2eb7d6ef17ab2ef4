package embedded

import (
	"runtime"
	"testing"
)

// recorder is a TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; runtime.Goexit() }

func end(t *testing.T, f func(testing.TB)) (skipped, failed bool) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.skipped, r.failed
}

func TestNeedProgram(t *testing.T) {
	need := func(tb testing.TB) { NeedProgram(tb, "no-such-program") }
	t.Setenv("CI", "")
	if skipped, failed := end(t, need); !skipped || failed {
		t.Error("a missing program does not skip the test")
	}
	t.Setenv("CI", "true")
	if skipped, failed := end(t, need); skipped || !failed {
		t.Error("a missing program does not fail the test where CI=true")
	}
	if skipped, failed := end(t, func(tb testing.TB) { NeedProgram(tb, "go") }); skipped || failed {
		t.Error("a program that is there is missed")
	}
}

func TestRedisHelper(t *testing.T) {
	r := TestRedis(t)
	if err := r.Restart(); err != nil {
		t.Error(err)
	}
	if _, real := r.(*Process); !real {
		if _, ok := FindRedisServer(); ok {
			t.Error("miniredis although there is a redis-server")
		}
	}
}
