package reported

import "math"

// A number is a JSON number that is read digit by digit. It is exact, whatever its length, and
// needs no more memory than a short one: 1.2e3, 1200.0 and 0.00012e7 are all 1200.
type number struct {
	negative    bool
	digits      uint64 // the first significant digits, maxDigits at most; zeros in front are not significant
	significant int64  // how many digits are significant
	last        int64  // how many are, up to the last that is not 0
	decimals    int64  // how many digits follow the point
	exponent    int64  // without its sign, maxExponent at most
	divides     bool   // the exponent is negative
}

const (
	maxDigits   = 19      // 10^19 < 2^64
	maxExponent = 1 << 50 // more than a body has digits
)

// addDigit adds a digit before the exponent, '0' to '9'.
func (n *number) addDigit(digit byte, afterPoint bool) {
	if afterPoint {
		n.decimals++
	}
	if digit == '0' && n.significant == 0 {
		return
	}
	if n.significant < maxDigits {
		n.digits = n.digits*10 + uint64(digit-'0')
	}
	n.significant++
	if digit != '0' {
		n.last = n.significant
	}
}

// addExponentDigit adds a digit of the exponent, '0' to '9'.
func (n *number) addExponentDigit(digit byte) {
	n.exponent = min(maxExponent, n.exponent*10+int64(digit-'0'))
}

// amount returns the number if it is a whole number, 0 or more. math.MaxInt64 stands for itself and
// for everything above it.
func (n *number) amount() (amount int64, ok bool) {
	if n.significant == 0 {
		return 0, true
	}
	// The number is 0.DIGITS times ten to the power of magnitude.
	magnitude := n.significant - n.decimals
	if n.divides {
		magnitude -= n.exponent
	} else {
		magnitude += n.exponent
	}
	switch {
	case n.negative || n.last > magnitude:
		return 0, false
	case magnitude > maxDigits:
		return math.MaxInt64, true
	}
	whole, have := n.digits, min(n.significant, maxDigits)
	for ; have < magnitude; have++ {
		whole *= 10
	}
	for ; have > magnitude; have-- {
		whole /= 10 // drops a 0, since last <= magnitude
	}
	return int64(min(whole, math.MaxInt64)), true
}
