package demoapi

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// words yields each word of a text with its place in bytes. A character of a
// script that is written without spaces is a word of its own.
func words(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		start := -1 // of the word that is being read
		end := func(at int) bool {
			if start < 0 {
				return true
			}
			// A dash or an apostrophe is part of a word in its middle only; it
			// cannot begin one.
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

// sentences yields each sentence that has a word in it. One ends at its
// punctuation mark, before a space (3.14 is no end), or at an empty line.
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

// clip shortens a text to about n characters, at a space where there is one.
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

// small are words that say which language a text is in, and little else.
var small = map[string][]string{
	"en": {"the", "and", "of", "to", "in", "is", "that", "it", "for", "was", "with", "are", "this", "not", "what", "dear", "a", "an", "be", "have", "from", "which", "but", "or"},
	"de": {"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "mit", "für", "auf", "von", "dem", "den", "zu", "wird", "sich", "auch", "liebe", "lieber", "wir", "ich"},
	"fr": {"le", "la", "les", "et", "est", "une", "des", "dans", "pour", "que", "qui", "pas", "sur", "avec", "du", "au", "nous", "vous", "cher", "chère"},
	"es": {"el", "los", "las", "y", "es", "una", "del", "para", "que", "por", "con", "no", "se", "su", "como", "más", "pero", "estimado", "estimada"},
	"it": {"il", "gli", "e", "è", "una", "della", "di", "per", "che", "con", "non", "si", "sono", "del", "nel", "più", "caro", "cara"},
}

// languagesOf says in which languages a word, in lower case, is a small one.
var languagesOf = func() map[string][]string {
	m := map[string][]string{}
	for language, list := range small {
		for _, word := range list {
			m[word] = append(m[word], language)
		}
	}
	return m
}()
