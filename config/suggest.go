package config

import "strings"

// suggest returns the name that a misspelt word probably means, or "" if none is close.
func suggest(word string, names []string) string {
	best, distance := "", max(1, min(len(word), 64)/3)+1
	for _, name := range names {
		if d := editDistance(strings.ToLower(strings.ReplaceAll(word, "-", "_")), name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns the least number of letters to insert, drop, replace or swap with
// their neighbour that turns a into b (optimal string alignment). Words over 64 bytes, which
// are longer than any name, count as entirely different.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var rows [3][]int // rows i-2, i-1 and i of the table
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[2] {
		rows[2][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[0], rows[1], rows[2] = rows[1], rows[2], rows[0]
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			differ := 0
			if a[i-1] != b[j-1] {
				differ = 1
			}
			d := min(rows[1][j]+1, rows[2][j-1]+1, rows[1][j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[0][j-2]+1)
			}
			rows[2][j] = d
		}
	}
	return rows[2][len(b)]
}
