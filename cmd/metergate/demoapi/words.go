package demoapi

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// words yields each word of a text with its byte offset. In scripts that are written
// without spaces each character is a word.
func words(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		start := -1 // of the current word; -1: none
		end := func(at int) bool {
			if start < 0 {
				return true
			}
			// A dash or an apostrophe belongs to a word only in its middle. It cannot
			// begin one.
			word := strings.TrimRight(text[start:at], "-'’")
			from := start
			start = -1
			return yield(from, word)
		}
		for i, r := range text {
			switch {
			case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
				if !end(i) || !yield(i, string(r)) {
					return
				}
			case unicode.IsLetter(r) || unicode.IsDigit(r):
				if start < 0 {
					start = i
				}
			case start >= 0 && (unicode.IsMark(r) || strings.ContainsRune("-'’", r)):
			default:
				if !end(i) {
					return
				}
			}
		}
		end(len(text))
	}
}

func countWords(text string) (n int) {
	for range words(text) {
		n++
	}
	return n
}

// sentences yields each sentence that contains a word. A sentence ends at a punctuation
// mark that is followed by a space (3.14 does not end one), or at an empty line.
func sentences(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := 0
		end := func(at int) bool {
			s := strings.TrimSpace(text[start:at])
			start = at
			return !hasWord(s) || yield(s)
		}
		for i, r := range text {
			after := i + utf8.RuneLen(r)
			next, _ := utf8.DecodeRuneInString(text[after:])
			ends := strings.ContainsRune("。！？", r) ||
				strings.ContainsRune(".!?…", r) && (after == len(text) || unicode.IsSpace(next)) ||
				r == '\n' && next == '\n'
			if ends && !end(after) {
				return
			}
		}
		end(len(text))
	}
}

func hasWord(text string) bool {
	for range words(text) {
		return true
	}
	return false
}

// clip shortens a text to at most n characters, if possible at a space, and adds "…".
func clip(text string, n int) string {
	seen := 0
	for i := range text {
		if seen == n {
			short := text[:i]
			if space := strings.LastIndexByte(short, ' '); space > 0 {
				short = short[:space]
			}
			return short + "…"
		}
		seen++
	}
	return text
}

// commonWords are short words that identify a language.
var commonWords = map[string][]string{
	"en": {"the", "and", "of", "to", "in", "is", "that", "it", "for", "was", "with", "are", "this", "not", "what", "dear", "a", "an", "be", "have", "from", "which", "but", "or"},
	"de": {"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "mit", "für", "auf", "von", "dem", "den", "zu", "wird", "sich", "auch", "liebe", "lieber", "wir", "ich"},
	"fr": {"le", "la", "les", "et", "est", "une", "des", "dans", "pour", "que", "qui", "pas", "sur", "avec", "du", "au", "nous", "vous", "cher", "chère"},
	"es": {"el", "los", "las", "y", "es", "una", "del", "para", "que", "por", "con", "no", "se", "su", "como", "más", "pero", "estimado", "estimada"},
	"it": {"il", "gli", "e", "è", "una", "della", "di", "per", "che", "con", "non", "si", "sono", "del", "nel", "più", "caro", "cara"},
}

// languagesOf maps a lower-case word to the languages in which it is common.
var languagesOf = func() map[string][]string {
	m := map[string][]string{}
	for language, list := range commonWords {
		for _, word := range list {
			m[word] = append(m[word], language)
		}
	}
	return m
}()
