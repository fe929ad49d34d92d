package quota

import "errors"

// Errors of a store about a request. All other errors are those of its medium.
var (
	// ErrSettled: the request to reserve was committed or released before. Nothing is held.
	ErrSettled = errors.New("the reservation is already settled")
	// ErrUserData: what the store has of this user cannot be used, such as data of a later
	// release. It says nothing about other users.
	ErrUserData = errors.New("the store cannot use what it has of this user")
	// ErrContended: each time that the store was asked, something else of this user had changed, or a
	// window had ended. A request that was to be reserved is not. It says nothing about the store's
	// health.
	ErrContended = errors.New("the store's clock, the user's plan or its terms changed again and again during one call")
	// ErrOverloaded: the gateway had no connection or processor time to ask the store in
	// time. Nothing was sent, and it says nothing about the store's health.
	ErrOverloaded = errors.New("too many requests are waiting for the store")
)

// ErrNoSpace: the disk of the store has too little room for a copy of its file.
var ErrNoSpace = errors.New("no backup was made")

// Errors about a Change, or about reading the past. Nothing has changed.
var (
	// ErrInvalidChange: a field of the Change is wrong; the error says which.
	ErrInvalidChange = errors.New("invalid change")
	// ErrNoSuchLimit: the user's plan does not have the limit that a grant names.
	ErrNoSuchLimit = errors.New("the user's plan has no such limit")
	// ErrTooLarge: the grants of one limit, or the count of one window, would exceed
	// MaxAmount.
	ErrTooLarge = errors.New("the number would be too large")
	// ErrIDConflict: within ChangeIDLife, the ID was used for a different change.
	ErrIDConflict = errors.New("the id belongs to another change")
	// ErrTooManyIDs: within ChangeIDLife, MaxChangeIDs changes of this user had an ID. A
	// change without an ID is still accepted.
	ErrTooManyIDs = errors.New("too many changes of this user have an id")
	// ErrNotKept: the window has not begun, or its counts have been deleted.
	ErrNotKept = errors.New("no counts are kept for this time: it is in the future, or too long ago")
)

// StoreResponded reports whether a call that returned err was carried out by the store, or
// rejected for a reason of this package. It returns false for errors of the medium and for
// ErrOverloaded.
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

// A BrokenConnectionError is the error of all calls that were in progress on a connection
// when it broke. They share one value, so that it can be recognised as a single failure.
// Whether the store carried out what they sent is unknown.
type BrokenConnectionError struct {
	Err error // why the connection ended; not nil
}

func (e *BrokenConnectionError) Error() string { return "the connection broke: " + e.Err.Error() }

// Unwrap returns why the connection ended.
func (e *BrokenConnectionError) Unwrap() error { return e.Err }
