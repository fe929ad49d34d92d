package demoapi

import (
	"bufio"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

const hello = `"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hello there. I love tea."}]`

// A whole answer has its text and its tokens; a token is a word.
func TestChatAnswersAtOnce(t *testing.T) {
	status, body := post(t, "/v1/chat/completions", "application/json", strings.NewReader(`{`+hello+`}`))
	var got struct {
		Object  string
		Choices []struct {
			Message      struct{ Role, Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage chatUsage
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || got.Object != "chat.completion" || len(got.Choices) != 1 {
		t.Fatalf("%d %s", status, body)
	}
	answer := got.Choices[0]
	n := len(strings.Fields(answer.Message.Content))
	if answer.Message.Role != "assistant" || answer.FinishReason != "stop" || got.Usage != (chatUsage{7, n, 7 + n}) {
		t.Errorf("%s: want 7 + %d tokens", body, n)
	}
	if !strings.Contains(answer.Message.Content, "7 words in 3 sentences") || !strings.Contains(answer.Message.Content, "You say: I love tea.") {
		t.Errorf("the answer is %q", answer.Message.Content)
	}
}

// A stream has the same answer in pieces. The last one has the tokens, if the client wants to know.
func TestChatStreams(t *testing.T) {
	_, whole := post(t, "/v1/chat/completions", "application/json", strings.NewReader(`{`+hello+`}`))
	for options, wantUsage := range map[string]bool{
		`"stream":true`: false,
		`"stream":true,"stream_options":{"include_usage":true}`: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := httptest.NewRecorder()
			Handler().ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{`+options+`,`+hello+`}`)))
			if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "text/event-stream" {
				t.Fatalf("%d %s", w.Code, got)
			}
			text, usage, last := "", chatUsage{}, ""
			for lines := bufio.NewScanner(w.Body); lines.Scan(); {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok {
					continue
				}
				if last = data; data == "[DONE]" {
					continue
				}
				var event struct {
					Object  string
					Choices []struct{ Delta struct{ Content string } }
					Usage   *chatUsage
				}
				if err := json.Unmarshal([]byte(data), &event); err != nil || event.Object != "chat.completion.chunk" {
					t.Fatalf("%s: %v", data, err)
				}
				if len(event.Choices) > 0 {
					text += event.Choices[0].Delta.Content
				}
				if event.Usage != nil {
					usage = *event.Usage
				}
			}
			content, _ := json.Marshal(text)
			if last != "[DONE]" || !strings.Contains(whole, string(content)) {
				t.Errorf("the stream says %q and ends with %q; at once, the answer is %s", text, last, whole)
			}
			if n := len(strings.Fields(text)); wantUsage && usage != (chatUsage{7, n, 7 + n}) || !wantUsage && usage != (chatUsage{}) {
				t.Errorf("%s: usage %+v", options, usage)
			}
		})
	}
}

func TestChatRefusesBadInput(t *testing.T) {
	for body, want := range map[string]string{
		``:                     "must be JSON",
		`Hello`:                "must be JSON",
		`{"messages":[]}`:      "no content",
		`{"messages":"Hello"}`: "must be JSON",
		`{"messages":[{"role":"user","content":" "}]}`: "no content",
	} {
		if status, got := post(t, "/v1/chat/completions", "application/json", strings.NewReader(body)); status != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s, want 400 and %q", body, status, got, want)
		}
	}
	if status, _ := post(t, "/v1/chat/completions?fail=503", "application/json", strings.NewReader(`{`+hello+`}`)); status != 503 {
		t.Errorf("?fail=503: %d", status)
	}
}
