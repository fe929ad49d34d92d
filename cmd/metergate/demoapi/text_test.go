package demoapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWordsSplitsText(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"... - ' 🙂", nil},
		{"One, two; three-four 5.", []string{"One", "two", "three-four", "5"}},
		{"it's -not- 'quoted'", []string{"it's", "not", "quoted"}},
		{"Größe naïve e\u0301te", []string{"Größe", "naïve", "e\u0301te"}},
		{"Привет, мир", []string{"Привет", "мир"}},
		{"我們ok", []string{"我", "們", "ok"}},
		{"हिन्दी", []string{"हिन्दी"}},
	} {
		var got []string
		for at, word := range words(test.text) {
			if !strings.HasPrefix(test.text[at:], word) {
				t.Errorf("words(%q): %q is not at %d", test.text, word, at)
			}
			got = append(got, word)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("words(%q): got %q, want %q", test.text, got, test.want)
		}
	}
}

func TestSentencesSplitsText(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"?! ...", nil},
		{"No mark at the end", []string{"No mark at the end"}},
		{"One. Two! Three? Four…", []string{"One.", "Two!", "Three?", "Four…"}},
		{"Pi is 3.14 or so. Yes.", []string{"Pi is 3.14 or so.", "Yes."}},
		{"Wait... what?", []string{"Wait...", "what?"}},
		{"A title\n\nand a text", []string{"A title", "and a text"}},
		{"你好。再见！", []string{"你好。", "再见！"}},
	} {
		if got := slices.Collect(sentences(test.text)); !slices.Equal(got, test.want) {
			t.Errorf("sentences(%q): got %q, want %q", test.text, got, test.want)
		}
	}
}

func TestClipShortensAtSpace(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"ab cd ef", 6, "ab cd…"},
		{"äöüß", 3, "äöü…"},
	} {
		if got := clip(test.text, test.n); got != test.want {
			t.Errorf("clip(%q, %d): got %q, want %q", test.text, test.n, got, test.want)
		}
	}
}

func TestAnalyzeCountsAndRanks(t *testing.T) {
	text := "The gateway counts requests. It is a good gateway, and counts nothing else: great!"
	got, err := analyze(text)
	want := analysis{
		Words: 14, Characters: len(text), Sentences: 2, Language: "en",
		Sentiment: sentiment{"positive", 1},
		KeyTerms:  []keyTerm{{"gateway", 2}, {"counts", 2}, {"requests", 1}, {"good", 1}, {"nothing", 1}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestAnalyzeGuessesLanguage(t *testing.T) {
	for text, want := range map[string]string{
		"This is what the reader sees.":        "en",
		"Das ist nicht der Text, und auch gut": "de",
		"C'est une phrase pour vous":           "fr",
		"El texto es para los lectores":        "es",
		"Gli esempi sono nel testo":            "it",
		"Привет мир":                           "ru",
		"カレーは好き":                               "ja",
		"漢字とかな":                                "ja",
		"你好":                                   "zh",
		"안녕하세요":                                "ko",
		"Γειά σου":                             "el",
		"مرحبا":                                "ar",
		"שלום":                                 "he",
		"नमस्ते":                               "hi",
		"สวัสดี":                               "th",
		"Lorem ipsum":                          "und",
		"12345":                                "und",
	} {
		if got, _ := analyze(text); got.Language != want {
			t.Errorf("%q: got %s, want %s", text, got.Language, want)
		}
	}
}

func TestAnalyzeScoresSentiment(t *testing.T) {
	for text, want := range map[string]sentiment{
		"A table":                         {"neutral", 0},
		"Good":                            {"positive", 1},
		"SCHLECHT":                        {"negative", -1},
		"good and bad":                    {"neutral", 0},
		"good, great, awful":              {"positive", 0.33},
		"bad, broken, terrible, but nice": {"negative", -0.5},
	} {
		if got, _ := analyze(text); got.Sentiment != want {
			t.Errorf("%q: got %v, want %v", text, got.Sentiment, want)
		}
	}
}

func TestRedactMasksPersonalData(t *testing.T) {
	for _, test := range []struct {
		text, want                string
		emails, ibans, phones, ns int
	}{
		{"Nothing to hide.", "Nothing to hide.", 0, 0, 0, 0},
		{"Write to a.b+c@example.co.uk.", "Write to [EMAIL].", 1, 0, 0, 0},
		{"jürgen@müller.example, x@y.example", "[EMAIL], [EMAIL]", 2, 0, 0, 0},
		{"@home and user@localhost", "@home and user@localhost", 0, 0, 0, 0},
		{"To DE89 3704 0044 0532 0130 00, please", "To [IBAN], please", 0, 1, 0, 0},
		{"GB82WEST12345698765432", "[IBAN]", 0, 1, 0, 0},
		{"Call +49 (30) 123456-78 today", "Call [PHONE] today", 0, 0, 1, 0},
		{"Call 030 1234567.", "Call [PHONE].", 0, 0, 1, 0},
		{"Call (020) 7946 0123", "Call [PHONE]", 0, 0, 1, 0},
		{"555-867-5309 or 555 867 5309", "[PHONE] or [PHONE]", 0, 0, 2, 0},
		{"On 2026-11-24 at 12:30 we paid 1234567.89", "On 2026-11-24 at 12:30 we paid 1234567.89", 0, 0, 0, 0},
		{"Met Ada Lovelace there", "[NAME] there", 0, 0, 0, 1},
		{"with Ada Lovelace and Jean-Luc O’Brien", "with [NAME] and [NAME]", 0, 0, 0, 2},
		{"für Jürgen Äßler", "für [NAME]", 0, 0, 0, 1},
		{"Dear Anna Berg,", "Dear [NAME],", 0, 0, 0, 1},
		{"The House stays, and Mr stays", "The House stays, and Mr stays", 0, 0, 0, 0},
		{"from Лев Толстой", "from [NAME]", 0, 0, 0, 1},
		{"Ada Lovelace <ada@example.com>, +44 20 7946 0123", "[NAME] <[EMAIL]>, [PHONE]", 1, 0, 1, 1},
	} {
		got, err := redact(test.text)
		found := map[string]int{"email": test.emails, "iban": test.ibans, "phone": test.phones, "name": test.ns}
		if err != nil || got.Text != test.want || !reflect.DeepEqual(got.Found, found) {
			t.Errorf("redact(%q):\n got %q %v\nwant %q %v", test.text, got.Text, got.Found, test.want, found)
		}
	}
}

func TestReportSummarizesParagraphs(t *testing.T) {
	got, err := report("\nOn counting.\r\n\r\nIt is simple. Or is it?\n\n---\n\n" + strings.Repeat("word ", 193))
	want := textReport{
		Title: "On counting",
		Sections: []section{
			{"On counting", "On counting.", 2},
			{"It is simple", "It is simple.", 6},
			{"word word word word word word word word…", strings.TrimSuffix(strings.Repeat("word ", 40), " ") + "…", 193},
		},
		Words: 201, ReadingSeconds: 61, // 60.3
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}

	long, _ := report(strings.Repeat("Paragraph.\n\n", 50))
	if len(long.Sections) != maxSections || long.Words != 50 {
		t.Errorf("got %d sections of %d words, want %d of 50", len(long.Sections), long.Words, maxSections)
	}
	if got, err := report("🙂"); err != nil || got.Title != "🙂" || got.Words != 0 || len(got.Sections) != 0 {
		t.Errorf("a text without words: got %+v, %v", got, err)
	}
}

func TestDrillAsksForLongestWords(t *testing.T) {
	for _, test := range []struct {
		text string
		want []question
	}{
		{"The cat sat quietly. A category! Größen zählen? Never asked.", []question{
			{"The cat sat _____.", "quietly"}, {"A _____!", "category"}, {"_____ zählen?", "Größen"},
		}},
		// Too few sentences: the second longest words follow.
		{"A cat categorises. Dogs bark.", []question{
			{"A cat _____.", "categorises"}, {"_____ bark.", "Dogs"}, {"A _____ categorises.", "cat"},
		}},
		// No word twice, in whatever case.
		{"Echo. echo. ECHO. One two.", []question{
			{"_____.", "Echo"}, {"_____ two.", "One"}, {"One _____.", "two"},
		}},
		{"你好吗", []question{{"_____好吗", "你"}, {"你_____吗", "好"}, {"你好_____", "吗"}}},
		{"Two words", nil},
		{"again Again AGAIN", nil},
		{"🙂", nil},
	} {
		got, err := drill(test.text)
		if (err != nil) != (test.want == nil) || !slices.Equal(got.Questions, test.want) {
			t.Errorf("drill(%q): got %q, %v\nwant %q", test.text, got.Questions, err, test.want)
		}
	}
}

// For any text, all answers are valid UTF-8 and agree with each other.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "Hello. Ada Lovelace, ada@example.com", "你好。", "it's-", "a\u0301", "DE89 3704 0044 0532 0130 00 +49 30 123456"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // refused before it gets here
		}
		n := 0
		for at, word := range words(text) {
			if word == "" || !strings.HasPrefix(text[at:], word) {
				t.Fatalf("word %q at %d", word, at)
			}
			n++
		}
		a, _ := analyze(text)
		if a.Words != n || a.Sentences > n {
			t.Fatalf("%d words, %d sentences; there are %d words", a.Words, a.Sentences, n)
		}
		r, _ := redact(text)
		p, _ := report(text)
		d, _ := drill(text)
		if p.Words != n {
			t.Fatalf("the report has %d words, the text %d", p.Words, n)
		}
		for _, q := range d.Questions {
			if !strings.Contains(q.Question, "_____") || q.Answer == "" {
				t.Fatalf("a question without a gap: %+v", q)
			}
		}
		if all := fmt.Sprint(a, r, p, d); !utf8.ValidString(all) {
			t.Fatalf("not UTF-8: %q", all)
		}
	})
}
