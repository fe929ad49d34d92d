package testkit

import (
	"reflect"
	"sync"
	"testing"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// SlowDisk makes the next commit to a bbolt database wait, with its first page, until release is called. waits is closed
// once it does. It must be called in a write transaction of that database, so that no other one runs.
func SlowDisk(t testing.TB, db *bolt.DB) (waits <-chan struct{}, release func()) {
	t.Helper()
	field := reflect.ValueOf(db).Elem().FieldByName("ops").FieldByName("writeAt")
	writeAt, ok := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Interface().(*func([]byte, int64) (int, error))
	if !ok {
		t.Fatalf("bbolt writes pages in another way: %v", field.Type())
	}
	waiting, released := make(chan struct{}), make(chan struct{})
	var first sync.Once
	disk := *writeAt
	*writeAt = func(page []byte, at int64) (int, error) {
		first.Do(func() { close(waiting); <-released })
		return disk(page, at)
	}
	return waiting, sync.OnceFunc(func() { close(released) })
}
