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
func setNonblock(uintptr)                          {}

var errCannotPass = errors.New("this system cannot pass sockets to a program")

func listenerOf(*os.File) (net.Listener, error)        { return nil, errCannotPass }
func duplicate(net.Listener, string) (*os.File, error) { return nil, errCannotPass }

// NotifyHandover does nothing: this system has no such signal.
func NotifyHandover(chan<- os.Signal) {}
