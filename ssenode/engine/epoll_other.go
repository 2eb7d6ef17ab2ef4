//go:build !linux

package engine

const epollHere = false

func newEpoll(int) (Engine, error) { panic("epoll engine on another system than Linux") }
