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
