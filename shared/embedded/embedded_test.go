package embedded

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	TestsAtOnce(8, 8)
	goleak.VerifyTestMain(m)
}

const wait = 10 * time.Second

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	Eventually(t, what, wait, f)
}
