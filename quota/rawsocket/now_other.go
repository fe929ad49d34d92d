//go:build !linux && !darwin

package rawsocket

import "errors"

const isRaw = false

// CanPeek: Peek, WriteNow and ReadNow are only for Linux and macOS.
const CanPeek = false

func Peek(uintptr) (int, error)             { return 0, errors.ErrUnsupported }
func WriteNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
func ReadNow(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
