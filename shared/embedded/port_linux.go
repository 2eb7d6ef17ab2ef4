package embedded

import (
	"fmt"
	"sync"
	"syscall"
)

// holdPort chooses a free port of loopback that nobody gets by chance until release is
// called, also while the server that it is for is stopped: with tests beside each other
// there is always somebody who wants any port. A socket is bound to it that does not
// listen. Linux gives the port then to nobody who does not ask for it by its number, lets
// who does so listen on it (with SO_REUSEADDR, as servers do), and refuses connections to
// it as long as nobody does.
func holdPort() (port int, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("hold a port: %w", err)
	}
	release = sync.OnceFunc(func() { _ = syscall.Close(fd) })
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		release()
		return 0, nil, fmt.Errorf("hold a port: %w", err)
	}
	return name.(*syscall.SockaddrInet4).Port, release, nil
}
