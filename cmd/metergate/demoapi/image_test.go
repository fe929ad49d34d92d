package demoapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// picture makes an image of one colour, except for its first pixel.
func picture(width, height int, fill, first color.Color) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, fill)
		}
	}
	img.Set(0, 0, first)
	return img
}

func encode(t *testing.T, format string, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch format {
	case "png":
		err = png.Encode(&b, img)
	case "jpeg":
		err = jpeg.Encode(&b, img, nil)
	case "gif":
		err = gif.Encode(&b, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// form makes a multipart body of name and content pairs.
func form(t *testing.T, fields ...string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		part, err := w.CreateFormFile(fields[i], "file")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, fields[i+1])
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestImageIsAnalyzed(t *testing.T) {
	var (
		red   = color.NRGBA{255, 0, 0, 255}
		blue  = color.NRGBA{0, 0, 255, 255}
		clear = color.NRGBA{}
	)
	for _, test := range []struct {
		name, format  string
		width, height int
		image         image.Image
		color         string
	}{
		{"png", "png", 3, 2, picture(3, 2, red, red), "#ff0000"},
		{"gif", "gif", 2, 2, picture(2, 2, red, red), "#ff0000"},
		{"mixed", "png", 1, 2, picture(1, 2, red, blue), "#7f007f"},
		{"a clear pixel weighs nothing", "png", 1, 2, picture(1, 2, red, clear), "#ff0000"},
		{"all clear", "png", 2, 2, picture(2, 2, clear, clear), ""},
		{"jpeg", "jpeg", 16, 8, picture(16, 8, color.White, color.White), "#ffffff"},
		{"too many pixels to decode", "png", 1024, 1025, image.NewGray(image.Rect(0, 0, 1024, 1025)), ""},
	} {
		data := encode(t, test.format, test.image)
		sum := sha256.Sum256(data)
		want := imageAnalysis{test.format, test.width, test.height, int64(len(data)), hex.EncodeToString(sum[:]), test.color}
		check := func(how, contentType string, body []byte) {
			status, answer := post(t, "/api/image-analysis", contentType, bytes.NewReader(body))
			var got imageAnalysis
			json.Unmarshal([]byte(answer), &got)
			if status != 200 || got != want {
				t.Errorf("%s, %s: got %d %s\nwant %+v", test.name, how, status, answer, want)
			}
		}
		check("raw", "image/"+test.format, data)
		contentType, body := form(t, "image", string(data))
		check("form", contentType, body)
		contentType, body = form(t, "note", "hello", "image", string(data), "image", "a second one")
		check("form with more in it", contentType, body)
	}
}

func TestInvalidImagesAreRefused(t *testing.T) {
	data := encode(t, "png", picture(64, 64, color.White, color.Black))
	formType, whole := form(t, "image", string(data))
	otherType, other := form(t, "file", string(data))
	brokenType, broken := form(t, "image", "not an image")
	emptyType, empty := form(t)
	for _, test := range []struct {
		name, contentType string
		body              []byte
		want              string
	}{
		{"no type", "", data, "send an image"},
		{"another type", "text/plain", data, "send an image"},
		{"empty", "image/png", nil, "not a PNG"},
		{"not an image", "image/png", []byte("hello"), "not a PNG"},
		{"an unknown format", "image/svg+xml", []byte("<svg/>"), "not a PNG"},
		{"half an image", "image/png", data[:len(data)/2], "damaged"},
		{"no boundary", "multipart/form-data", whole, "malformed"},
		{"another boundary", "multipart/form-data; boundary=x", whole, "malformed"},
		{"empty form", formType, nil, "malformed"},
		{"form breaks off in its header", formType, whole[:20], "malformed"},
		{"form breaks off in the image", formType, whole[:len(whole)/2], "malformed"},
		{"not a form", formType, data, "malformed"},
		{"no such field", otherType, other, `no field \"image\"`},
		{"no field at all", emptyType, empty, `no field \"image\"`},
		{"no image in it", brokenType, broken, "not a PNG"},
	} {
		status, body := post(t, "/api/image-analysis", test.contentType, bytes.NewReader(test.body))
		if status != 400 || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %s, want 400 and %q in it", test.name, status, body, test.want)
		}
	}
	body := io.MultiReader(bytes.NewReader(data[:10]), failingReader{})
	if status, answer := post(t, "/api/image-analysis", "image/png", body); status != 400 || !strings.Contains(answer, "ended early") {
		t.Errorf("broken off: got %d %s, want 400", status, answer)
	}
}

// A large upload is counted and hashed to its end, in constant memory.
func TestLargeImageIsStreamed(t *testing.T) {
	data := encode(t, "png", picture(2, 2, color.White, color.White))
	const size = 64 << 20
	tail := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{}), size) }
	sum := sha256.New()
	sum.Write(data)
	io.Copy(sum, tail())

	r := httptest.NewRequest("POST", "/api/image-analysis", io.MultiReader(bytes.NewReader(data), tail()))
	r.Header.Set("Content-Type", "image/png")
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	Handler().ServeHTTP(w, r)
	runtime.ReadMemStats(&after)

	want := fmt.Sprintf(`{"format":"png","width":2,"height":2,"bytes":%d,"sha256":"%x"}`, len(data)+size, sum.Sum(nil))
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("allocated %d MiB for an upload of %d MiB", n>>20, size>>20)
	}
}
