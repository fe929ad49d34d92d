package queue

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestTakeAllReturnsBatchesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue[int]
		taken := make(chan []int)
		go func() {
			for {
				items := q.TakeAll()
				taken <- items
				if len(items) == 0 {
					return
				}
			}
		}()
		synctest.Wait() // it waits for items
		q.Add(1)
		if got := <-taken; !slices.Equal(got, []int{1}) {
			t.Errorf("a single item is taken as %v", got)
		}
		synctest.Wait() // it waits again
		for i := range 3 {
			q.Add(i)
		}
		q.Close()
		var rest []int
		for items := range taken {
			if rest = append(rest, items...); len(items) == 0 {
				break
			}
		}
		if !slices.Equal(rest, []int{0, 1, 2}) {
			t.Errorf("before it is closed, %v are taken, want 0, 1, 2", rest)
		}
		if q.Add(4) {
			t.Error("a closed queue accepts an item")
		}
	})
}
