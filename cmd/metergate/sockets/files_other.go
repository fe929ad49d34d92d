//go:build !unix

package sockets

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

func lockFolder(string) (unlock func(), err error) { return func() {}, nil }
func setSocketMode(uintptr, fs.FileMode)           {}
func closeOnExec(uintptr)                          {}

func listenerOf(*os.File) (net.Listener, error) {
	return nil, errors.New("this system cannot pass sockets to a program")
}

// NotifyHandover does nothing: this system has no such signal.
func NotifyHandover(chan<- os.Signal) {}
