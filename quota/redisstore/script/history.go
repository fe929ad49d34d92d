package script

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

//go:embed history.lua
var historyLua string

//go:embed days.lua
var daysLua string

// History is history.lua, which has no arguments after User and Layout. ParseHistory reads the text of
// its reply.
var History = redis.NewScript(commonLua + historyLua)

// dayField returns the field with what is counted of an endpoint on a date.
func dayField(date quota.Date, endpoint string) string {
	return "day/" + strconv.Itoa(int(date)) + "/" + endpoint
}

// dayEnds returns when the numbers of a date end if they are kept for so many days. A date ends up to 12
// hours after that of UTC.
func dayEnds(date quota.Date, historyDays int) time.Time {
	return time.UnixMilli((int64(date) + int64(historyDays) + 2) * (24 * time.Hour).Milliseconds())
}

const (
	// maxDate bounds the dates in a history, in the year 9999.
	maxDate = 2932896
	// maxCount bounds the requests of a day, and their units beyond that: Lua counts so far.
	maxCount = 1 << 53
)

// ParseHistory reads the text of a reply of history.lua: what was used, by date and endpoint.
func ParseHistory(text string) (map[quota.Date]map[string]quota.Used, error) {
	_, text, _ = strings.Cut(text, "\n") // the override
	if text == "" {
		return nil, nil
	}
	head, lines, _ := strings.Cut(text, "\n")
	words := strings.Fields(head)
	if len(words) < 2 {
		return nil, fmt.Errorf("it begins with %.100q", head)
	}
	if _, err := parseDate(words[1]); err != nil {
		return nil, err
	}
	used := make(map[quota.Date]map[string]quota.Used)
	for line := range strings.Lines(lines) {
		words := strings.SplitN(strings.TrimRight(line, " \n"), " ", 3)
		if len(words) < 3 || words[0] == "" {
			return nil, fmt.Errorf("it has the line %.100q", line)
		}
		date, err := parseDate(words[1])
		if err != nil {
			return nil, err
		}
		for count := range strings.SplitSeq(words[2], ",") {
			u, err := parseUsed(count)
			if err != nil || date > maxDate {
				return nil, fmt.Errorf("of %.70q it has the count %.50q", words[0], count)
			}
			if u != (quota.Used{}) {
				if used[date] == nil {
					used[date] = make(map[string]quota.Used)
				}
				sum := used[date][words[0]].Add(u)
				if sum.Requests > maxCount {
					return nil, fmt.Errorf("of %.70q on %v it has %d requests", words[0], date, sum.Requests)
				}
				used[date][words[0]] = sum
			}
			date++
		}
	}
	return used, nil
}

func parseDate(text string) (quota.Date, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxDate {
		return 0, fmt.Errorf("it has the date %.50q", text)
	}
	return quota.Date(n), nil
}

// parseUsed reads "R", "R+X" or "R-X"; empty: nothing.
func parseUsed(text string) (u quota.Used, err error) {
	if text == "" {
		return u, nil
	}
	requests, extra := text, "0"
	if i := strings.IndexAny(text, "+-"); i >= 0 {
		requests, extra = text[:i], text[i:]
	}
	if u.Requests, err = strconv.ParseInt(requests, 10, 64); err != nil {
		return quota.Used{}, err
	}
	x, err := strconv.ParseInt(extra, 10, 64)
	if err != nil {
		return quota.Used{}, err
	}
	if u.Requests < 0 || u.Requests > maxCount || x > maxCount || x < -maxCount {
		return quota.Used{}, errors.New("too large")
	}
	u.Units = u.Requests + x
	return u, nil
}
