package demoapi

import (
	"cmp"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

type analysis struct {
	Words      int       `json:"words"`
	Characters int       `json:"characters"`
	Sentences  int       `json:"sentences"`
	Language   string    `json:"language"` // BCP 47; "und" if undetermined
	Sentiment  sentiment `json:"sentiment"`
	KeyTerms   []keyTerm `json:"key_terms"` // at most five, the most frequent first
}

type sentiment struct {
	Label string  `json:"label"` // positive, neutral, negative
	Score float64 `json:"score"` // -1 to 1
}

type keyTerm struct {
	Term  string `json:"term"`
	Count int    `json:"count"`
}

// mood is +1 for a positive word and -1 for a negative one.
var mood = map[string]int{
	"good": 1, "great": 1, "excellent": 1, "love": 1, "happy": 1, "best": 1, "nice": 1, "wonderful": 1, "succeeds": 1, "thanks": 1,
	"gut": 1, "toll": 1, "schön": 1, "danke": 1, "beste": 1, "bien": 1, "merci": 1, "bueno": 1, "gracias": 1, "buono": 1, "grazie": 1,
	"bad": -1, "terrible": -1, "awful": -1, "hate": -1, "sad": -1, "worst": -1, "wrong": -1, "broken": -1, "fails": -1, "poor": -1,
	"schlecht": -1, "schlimm": -1, "traurig": -1, "falsch": -1, "mauvais": -1, "malo": -1, "triste": -1, "cattivo": -1,
}

func analyze(text string) (analysis, error) {
	a := analysis{Characters: utf8.RuneCountInString(text), KeyTerms: []keyTerm{}}
	for range sentences(text) {
		a.Sentences++
	}
	good, bad := 0, 0
	votes := map[string]int{} // by language
	terms := map[string]int{}
	var order []string // terms in the order of their first appearance
	for _, word := range words(text) {
		a.Words++
		word = strings.ToLower(word)
		switch mood[word] {
		case 1:
			good++
		case -1:
			bad++
		}
		languages := languagesOf[word]
		for _, language := range languages {
			votes[language]++
		}
		if len(languages) == 0 && utf8.RuneCountInString(word) >= 4 {
			if terms[word] == 0 {
				order = append(order, word)
			}
			terms[word]++
		}
	}
	a.Language = guessLanguage(text, votes)
	a.Sentiment = sentiment{Label: "neutral"}
	if good+bad > 0 {
		a.Sentiment.Score = math.Round(100*float64(good-bad)/float64(good+bad)) / 100
	}
	switch {
	case good > bad:
		a.Sentiment.Label = "positive"
	case good < bad:
		a.Sentiment.Label = "negative"
	}
	slices.SortStableFunc(order, func(x, y string) int { return cmp.Compare(terms[y], terms[x]) })
	for _, term := range order[:min(5, len(order))] {
		a.KeyTerms = append(a.KeyTerms, keyTerm{term, terms[term]})
	}
	return a, nil
}

// scripts identify a language; the first one that a text uses wins. Japanese comes before
// Chinese, because it also uses Chinese characters.
var scripts = []struct {
	table    *unicode.RangeTable
	language string
}{
	{unicode.Hiragana, "ja"}, {unicode.Katakana, "ja"}, {unicode.Hangul, "ko"}, {unicode.Han, "zh"},
	{unicode.Cyrillic, "ru"}, {unicode.Greek, "el"}, {unicode.Arabic, "ar"}, {unicode.Hebrew, "he"},
	{unicode.Devanagari, "hi"}, {unicode.Thai, "th"},
}

// guessLanguage decides by common words, then by the script. English wins a tie.
func guessLanguage(text string, votes map[string]int) string {
	best := ""
	for _, language := range []string{"en", "de", "fr", "es", "it"} {
		if votes[language] > votes[best] {
			best = language
		}
	}
	if best != "" {
		return best
	}
	for _, s := range scripts {
		if strings.IndexFunc(text, func(r rune) bool { return unicode.Is(s.table, r) }) >= 0 {
			return s.language
		}
	}
	return "und"
}

type redaction struct {
	Text  string         `json:"text"`
	Found map[string]int `json:"found"` // by kind
}

var (
	emailPattern = regexp.MustCompile(`[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+`)
	ibanPattern  = regexp.MustCompile(`\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b`)
	// Starts with + or 0, or has the American form; so dates do not match.
	phonePattern = regexp.MustCompile(`(?:\+[0-9]|\b0[0-9]|\([0-9])[0-9 ()/-]{5,}[0-9]\b|\b[0-9]{3}[-. ][0-9]{3}[-. ][0-9]{4}\b`)
	// Two or more capitalized words in a row.
	namePattern = regexp.MustCompile(`\p{Lu}[\p{Ll}'’][\p{L}\p{M}'’-]*(?: \p{Lu}[\p{Ll}'’][\p{L}\p{M}'’-]*)+`)
)

func redact(text string) (redaction, error) {
	found := map[string]int{"email": 0, "iban": 0, "phone": 0, "name": 0}
	// IBANs come first, because part of one looks like a phone number.
	for _, kind := range []struct {
		name, mask string
		pattern    *regexp.Regexp
	}{
		{"email", "[EMAIL]", emailPattern},
		{"iban", "[IBAN]", ibanPattern},
		{"phone", "[PHONE]", phonePattern},
	} {
		text = kind.pattern.ReplaceAllStringFunc(text, func(string) string {
			found[kind.name]++
			return kind.mask
		})
	}
	text = namePattern.ReplaceAllStringFunc(text, func(match string) string {
		// The first word of a sentence is capitalized as well: in "Dear Anna Berg" the
		// name is what follows.
		kept, name := "", match
		for {
			first, rest, more := strings.Cut(name, " ")
			if !more {
				return match
			}
			if len(languagesOf[strings.ToLower(first)]) == 0 {
				found["name"]++
				return kept + "[NAME]"
			}
			kept, name = kept+first+" ", rest
		}
	})
	return redaction{text, found}, nil
}

type textReport struct {
	Title          string    `json:"title"`
	Sections       []section `json:"sections"` // the first twenty
	Words          int       `json:"words"`
	ReadingSeconds int       `json:"reading_seconds"`
}

type section struct {
	Heading string `json:"heading"`
	Summary string `json:"summary"`
	Words   int    `json:"words"`
}

const (
	maxSections    = 20
	wordsPerMinute = 200
)

func report(text string) (textReport, error) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	firstLine, _, _ := strings.Cut(text, "\n")
	r := textReport{
		Title:    clip(heading(firstLine), 80),
		Sections: []section{},
		Words:    countWords(text),
	}
	r.ReadingSeconds = (r.Words*60 + wordsPerMinute - 1) / wordsPerMinute
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if !hasWord(paragraph) {
			continue
		}
		if len(r.Sections) == maxSections {
			break
		}
		r.Sections = append(r.Sections, section{
			Heading: clip(heading(paragraph), 40),
			Summary: clip(firstSentence(paragraph), 200),
			Words:   countWords(paragraph),
		})
	}
	return r, nil
}

// firstSentence returns the whole text if it has no sentence.
func firstSentence(text string) string {
	for s := range sentences(text) {
		return s
	}
	return text
}

func heading(text string) string { return strings.TrimRight(firstSentence(text), ".。") }

type drillSheet struct {
	Questions []question `json:"questions"`
}

type question struct {
	Question string `json:"question"`
	Answer   string `json:"answer"`
}

// drill asks for the longest word of each sentence. If there are too few sentences, it goes
// on with the second longest of each, and so on.
func drill(text string) (drillSheet, error) {
	type gap struct {
		sentence string
		at       int
		word     string
	}
	var gaps [][]gap // by sentence, the longest first
	for s := range sentences(text) {
		s = clip(s, 300)
		var g []gap
		for at, word := range words(s) {
			g = append(g, gap{s, at, word})
		}
		slices.SortStableFunc(g, func(x, y gap) int {
			return cmp.Compare(utf8.RuneCountInString(y.word), utf8.RuneCountInString(x.word))
		})
		if gaps = append(gaps, g); len(gaps) == 100 {
			break // enough to choose from
		}
	}
	var sheet drillSheet
	asked := map[string]bool{} // a word is asked for once
	for rank, more := 0, true; more; rank++ {
		more = false
		for _, g := range gaps {
			if rank >= len(g) {
				continue
			}
			more = true
			word := g[rank]
			if key := strings.ToLower(word.word); !asked[key] {
				asked[key] = true
				sheet.Questions = append(sheet.Questions, question{
					Question: word.sentence[:word.at] + "_____" + word.sentence[word.at+len(word.word):],
					Answer:   word.word,
				})
			}
			if len(sheet.Questions) == 3 {
				return sheet, nil
			}
		}
	}
	return drillSheet{}, errors.New("the text needs at least three different words")
}
