//go:build !linux

package embedded

import "net"

// holdPort only chooses a free port: elsewhere than on Linux nothing holds it, and that
// it is still free later is luck.
func holdPort() (port int, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, func() {}, nil
}
