package quota

import "errors"

// Errors that a store returns besides those of its medium.
var (
	// ErrSettled: the id of the request to reserve has been committed or released
	// before; nothing is held.
	ErrSettled = errors.New("the reservation is settled already")
	// ErrOverloaded: the gateway had no connection or processor free to ask the
	// store in time. It says nothing about the store; nothing was sent.
	ErrOverloaded = errors.New("too many requests are waiting for the store")
)

// Errors of a Change, and of a look at the past. Nothing has changed then.
var (
	// ErrInvalidChange: a field of the Change is wrong; the error says which.
	ErrInvalidChange = errors.New("invalid change")
	// ErrNoSuchLimit: the user's plan has no such limit to grant units to.
	ErrNoSuchLimit = errors.New("the user's plan has no such limit")
	// ErrTooLarge: the grants of one limit, or the count of one window, would exceed
	// MaxRequests.
	ErrTooLarge = errors.New("the number would be too large")
	// ErrIDConflict: the Change's ID was that of another change within ChangeIDLife.
	ErrIDConflict = errors.New("the id belongs to another change")
	// ErrTooManyIDs: MaxChangeIDs changes of this user have had an ID within
	// ChangeIDLife. One without an ID is made.
	ErrTooManyIDs = errors.New("too many changes of this user have an id")
	// ErrNotKept: the window has not begun, or its counts are not kept any more.
	ErrNotKept = errors.New("there are no counts of this time: it is in the future, or over for longer than counts are kept")
)

// StoreResponded reports whether a store that returned err has done what it was asked, or
// has decided not to. Other errors are of its medium, or ErrOverloaded.
func StoreResponded(err error) bool {
	if err == nil {
		return true
	}
	for _, target := range []error{ErrSettled, ErrInvalidChange, ErrNoSuchLimit, ErrTooLarge, ErrIDConflict, ErrTooManyIDs, ErrNotKept} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// A BrokenConnectionError is what calls of a store end with that were under way on one
// connection when it broke. They have the same one, which so tells one fault from
// several. Whether what they sent was done is not known.
type BrokenConnectionError struct {
	Err error // what the connection ended with; not nil
}

func (e *BrokenConnectionError) Error() string { return "the connection broke: " + e.Err.Error() }

func (e *BrokenConnectionError) Unwrap() error { return e.Err }
