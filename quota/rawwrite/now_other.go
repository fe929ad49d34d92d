//go:build !linux && !darwin

package rawwrite

import "errors"

const isRaw = false

// Now is only for Linux and macOS.
func Now(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
