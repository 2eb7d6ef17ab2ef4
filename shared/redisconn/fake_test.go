package redisconn

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fake is a Redis or a sentinel that says what a test wants it to say.
type fake struct {
	addr   string
	silent atomic.Bool // takes everything, answers nothing
	conns  atomic.Int32

	mu      sync.Mutex // guards the following fields
	answers map[string]string
	heard   []string
	said    context.CancelFunc // called once it has answered
	turn    context.Context    // it answers only when this one is done
}

// newFake answers PING, and that it is a master with the id.
func newFake(t *testing.T, id string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().String(), answers: map[string]string{}}
	f.turn, f.said = context.WithCancel(t.Context())
	f.said()
	f.say("ping", "+PONG")
	f.say("info", bulk("run_id:"+id+"\r\n"))
	f.say("role", array("master"))
	f.say("hello", "*0")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { <-t.Context().Done(); c.Close() })
			f.conns.Add(1)
			wg.Go(func() {
				f.serve(c)
				c.Close()
				f.conns.Add(-1)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return f
}

// say sets the answer to a command, by its first word.
func (f *fake) say(command, answer string) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[command] = answer + "\r\n"
	return f
}

// names makes it a sentinel with that master.
func (f *fake) names(addr string) *fake {
	host, port, _ := net.SplitHostPort(addr)
	return f.say("sentinel", array(host, port))
}

// before makes the others answer only once it has.
func (f *fake) before(t *testing.T, others ...*fake) {
	ctx, cancel := context.WithCancel(t.Context())
	f.mu.Lock()
	f.said = cancel
	f.mu.Unlock()
	for _, o := range others {
		o.mu.Lock()
		o.turn = ctx
		o.mu.Unlock()
	}
}

// has makes it a server of a Cluster in whose eyes the address has all slots.
func (f *fake) has(addr string) *fake {
	host, port, _ := net.SplitHostPort(addr)
	return f.say("cluster", fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n%s\r\n:%s\r\n%s", bulk(host), port, bulk("node of "+addr)))
}

func (f *fake) was(command string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.heard {
		if line == command {
			return true
		}
	}
	return false
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s", len(s), s) }

func array(values ...string) string {
	s := fmt.Sprintf("*%d", len(values))
	for _, v := range values {
		s += "\r\n" + bulk(v)
	}
	return s
}

func (f *fake) serve(c net.Conn) {
	r := bufio.NewReader(c)
	number := func() int { // after "*" or "$"
		line, err := r.ReadString('\n')
		if err != nil || len(line) < 2 {
			return -1
		}
		n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		return n
	}
	for {
		n := number()
		if n < 1 {
			return
		}
		var words []string
		for range n {
			word := make([]byte, max(number(), 0)+2)
			if _, err := io.ReadFull(r, word); err != nil {
				return
			}
			words = append(words, string(word[:len(word)-2]))
		}
		f.mu.Lock()
		f.heard = append(f.heard, strings.Join(words, " "))
		answer, ok := f.answers[strings.ToLower(words[0])]
		said, turn := f.said, f.turn
		f.mu.Unlock()
		if !ok {
			answer = "-ERR unknown command '" + words[0] + "'\r\n"
		}
		if f.silent.Load() {
			continue
		}
		<-turn.Done()
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
		said()
	}
}
