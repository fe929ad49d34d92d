//go:build !linux && !darwin

package direct

import "errors"

const canPeek = false

func peek(uintptr) (int, error) { return 0, errors.ErrUnsupported }
