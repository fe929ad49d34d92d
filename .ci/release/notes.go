package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// heading matches the heading of a version in CHANGELOG.md, and what follows the name.
	heading = regexp.MustCompile(`(?m)^## \[([^\]]+)\](.*)$`)
	date    = regexp.MustCompile(`^ - \d{4}-\d\d-\d\d$`)
	// localLink matches a link to another place of the source.
	localLink = regexp.MustCompile(`\[([^\[\]]+)\]\([^():]+\)`)
)

// notes returns the section of CHANGELOG.md about the version; in a trial without such a section,
// the one about what is not released yet. Links to files of the source are only text there: the notes
// are read elsewhere.
func (r *release) notes() (string, error) {
	text, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	version := strings.TrimPrefix(r.version, "v")
	body, rest, found := section(string(text), version)
	switch {
	case r.trial && !found:
		body, _, _ = section(string(text), "Unreleased")
	case !found:
		return "", fmt.Errorf("CHANGELOG.md has no section ## [%s] - YEAR-MONTH-DAY: docs/release.md says how to make it%s", version, tryIt)
	case !r.trial && !date.MatchString(rest):
		return "", fmt.Errorf("CHANGELOG.md: the heading of version %s must end with its date, such as %q, and not with %q%s", version, " - 2026-11-30", rest, tryIt)
	case !r.trial && body == "":
		return "", fmt.Errorf("CHANGELOG.md: the section of version %s is empty%s", version, tryIt)
	}
	return fmt.Sprintf("# Metergate %s\n\n%s\n", r.version, localLink.ReplaceAllString(body, "$1")), nil
}

// section returns a section of the changelog, without its heading, and what follows the version's
// name in that.
func section(changelog, version string) (body, rest string, found bool) {
	headings := heading.FindAllStringSubmatchIndex(changelog, -1)
	for i, at := range headings {
		if changelog[at[2]:at[3]] != version {
			continue
		}
		end := len(changelog)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		return strings.TrimSpace(changelog[at[1]:end]), changelog[at[4]:at[5]], true
	}
	return "", "", false
}
