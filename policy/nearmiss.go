package policy

// nearMiss returns the known word that a misspelt one most likely meant: at
// most two letters added, lost, changed or swapped, and fewer than half of the
// word; "" when there is none.
func nearMiss(word string, known []string) string {
	best, bestDistance := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < bestDistance && d*2 < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance counts the single letters to add, remove, change or swap with
// their neighbour to turn a into b. Words too unlike in length to be near count
// as far apart.
func editDistance(a, b string) int {
	const far = 100
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return far
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
