package engine

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is set on the listener is found on its connections.
func TestInheritedOptions(t *testing.T) {
	e, err := New("epoll", 1)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, e)
	p, _ := r.connect()
	fd := int(p.sock.(*epollSocket).fd)
	for _, o := range []struct {
		name                string
		level, option, want int
	}{
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * SendBuffer},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(wait.Milliseconds())},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, // by package net
	} {
		got, err := unix.GetsockoptInt(fd, o.level, o.option)
		if err != nil || got != o.want {
			t.Errorf("%s is %d, %v; want %d", o.name, got, err, o.want)
		}
	}
}

// Every idle client has one of these: 48 bytes are a size that the allocator has.
func TestSocketSize(t *testing.T) {
	if size := unsafe.Sizeof(epollSocket{}); size > 48 {
		t.Errorf("a socket has %d bytes, want at most 48", size)
	}
}
