package demoapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// wordPause is how long a streamed answer waits before each word, so that it arrives as from a model.
const wordPause = 50 * time.Millisecond

// A chatRequest is the part of a request to OpenAI's chat completions that the answer depends on. Its
// content is a string; parts with images are more than this API understands.
type chatRequest struct {
	Messages []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"messages"`
	Stream        bool `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// A chatUsage counts tokens. Here, each word is one.
type chatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// chat answers like OpenAI's POST /v1/chat/completions, at once or as a stream of events.
func chat(w http.ResponseWriter, r *http.Request) {
	wanted, err := parseFault(r.URL.Query())
	if err != nil {
		writeChatError(w, http.StatusBadRequest, err)
		return
	}
	in, text, err := readChat(r)
	select {
	case <-time.After(wanted.delay):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	switch {
	case wanted.abort:
		panic(http.ErrAbortHandler)
	case wanted.status != 0:
		writeChatError(w, wanted.status, errors.New("failed, as requested"))
	case errors.As(err, new(tooLargeError)):
		writeChatError(w, http.StatusRequestEntityTooLarge, err)
	case err != nil:
		writeChatError(w, http.StatusBadRequest, err)
	default:
		words := strings.SplitAfter(chatAnswer(text), " ")
		usage := chatUsage{PromptTokens: len(strings.Fields(text)), CompletionTokens: len(words)}
		usage.TotalTokens = usage.PromptTokens + usage.CompletionTokens
		if in.Stream {
			streamChat(w, r, in, words, usage)
			return
		}
		writeJSON(w, http.StatusOK, chatObject("chat.completion", usage, map[string]any{
			"index": 0, "message": map[string]string{"role": "assistant", "content": strings.Join(words, "")}, "finish_reason": "stop",
		}))
	}
}

// readChat returns the request, and all that its messages say.
func readChat(r *http.Request) (in chatRequest, text string, err error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTextBytes+1))
	switch {
	case err != nil:
		return in, "", errors.New("the body ended early")
	case len(body) > maxTextBytes:
		return in, "", tooLargeError{errors.New("the messages are larger than 10 MiB")}
	case json.Unmarshal(body, &in) != nil:
		return in, "", errors.New(`the body must be JSON like {"messages": [{"role": "user", "content": "..."}]}`)
	}
	var said []string
	for _, message := range in.Messages {
		said = append(said, message.Content)
	}
	if text = strings.TrimSpace(strings.Join(said, "\n")); text == "" {
		return in, "", errors.New("the messages have no content")
	}
	return in, text, nil
}

// chatAnswer writes the answer by simple rules: the longer the text, the longer the answer.
func chatAnswer(text string) string {
	a, _ := analyze(text) // it knows no errors
	var s strings.Builder
	fmt.Fprintf(&s, "I have read %d words in %d sentences.", a.Words, a.Sentences)
	if len(a.KeyTerms) > 0 {
		fmt.Fprintf(&s, " They are about %s.", a.KeyTerms[0].Term)
	}
	fmt.Fprintf(&s, " The mood is %s.", a.Sentiment.Label)
	for sentence := range sentences(text) {
		fmt.Fprintf(&s, " You say: %s", strings.Join(strings.Fields(clip(sentence, 300)), " "))
	}
	return s.String()
}

// chatObject is an answer, or a part of one; choices has its only choice, or nothing.
func chatObject(object string, usage any, choices ...map[string]any) map[string]any {
	if choices == nil {
		choices = []map[string]any{}
	}
	return map[string]any{
		"id": "chatcmpl-demo", "object": object, "created": time.Now().Unix(), "model": "demo", "choices": choices, "usage": usage,
	}
}

// streamChat sends an event for each word. As with OpenAI, the last one before [DONE] has the usage, if
// the client has asked for it.
func streamChat(w http.ResponseWriter, r *http.Request, in chatRequest, words []string, usage chatUsage) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	send := func(event map[string]any) {
		data, _ := json.Marshal(event)
		fmt.Fprintf(w, "data: %s\n\n", data) // an error shows in the context
		http.NewResponseController(w).Flush()
	}
	delta := map[string]string{"role": "assistant", "content": ""}
	send(chatObject("chat.completion.chunk", nil, map[string]any{"index": 0, "delta": delta, "finish_reason": nil}))
	pause := time.NewTicker(wordPause)
	defer pause.Stop()
	for _, word := range words {
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
		delta := map[string]string{"content": word}
		send(chatObject("chat.completion.chunk", nil, map[string]any{"index": 0, "delta": delta, "finish_reason": nil}))
	}
	send(chatObject("chat.completion.chunk", nil, map[string]any{"index": 0, "delta": map[string]string{}, "finish_reason": "stop"}))
	if in.StreamOptions.IncludeUsage {
		send(chatObject("chat.completion.chunk", usage))
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// writeChatError writes an error in OpenAI's form, which its clients show.
func writeChatError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"message": err.Error(), "type": "invalid_request_error", "param": nil, "code": nil}})
}
