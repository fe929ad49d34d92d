package demoapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // image.Decode knows the formats that are imported
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"strings"
)

const (
	maxHeadBytes = 1 << 20 // of an image file that are kept
	maxPixels    = 1 << 20 // of an image that is decoded; even a tiny file can have many
)

type imageAnalysis struct {
	Format       string `json:"format"` // png, jpeg, gif
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	Bytes        int64  `json:"bytes"`
	SHA256       string `json:"sha256"`
	AverageColor string `json:"average_color,omitempty"` // #rrggbb; only for small images
}

func analyzeImage(r *http.Request) (any, error) {
	switch t := mediaType(r); {
	case t == "multipart/form-data":
		return imageFromForm(r)
	case strings.HasPrefix(t, "image/"):
		return readImage(r.Body)
	}
	return nil, errors.New(`send an image/* body or a multipart/form-data field "image"`)
}

func imageFromForm(r *http.Request) (*imageAnalysis, error) {
	malformed := errors.New("the multipart body is malformed")
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, malformed
	}
	var found *imageAnalysis
	var fault error
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, malformed
		}
		if part.FormName() == "image" && found == nil && fault == nil {
			found, fault = readImage(part)
		}
	}
	if found == nil && fault == nil {
		return nil, errors.New(`the form has no field "image"`)
	}
	return found, fault
}

// readImage reads to the end, but keeps only the head, in which all formats have their
// width and height.
func readImage(r io.Reader) (*imageAnalysis, error) {
	sum := sha256.New()
	r = io.TeeReader(r, sum)
	head, err := io.ReadAll(io.LimitReader(r, maxHeadBytes))
	if err != nil {
		return nil, errors.New("the body ended early")
	}
	rest, err := io.Copy(io.Discard, r)
	if err != nil {
		return nil, errors.New("the body ended early")
	}
	c, format, err := image.DecodeConfig(bytes.NewReader(head))
	if err != nil {
		return nil, errors.New("not a PNG, JPEG or GIF image")
	}
	a := &imageAnalysis{
		Format: format, Width: c.Width, Height: c.Height,
		Bytes: int64(len(head)) + rest, SHA256: hex.EncodeToString(sum.Sum(nil)),
	}
	if rest == 0 && int64(c.Width)*int64(c.Height) <= maxPixels {
		img, _, err := image.Decode(bytes.NewReader(head))
		if err != nil {
			return nil, errors.New("the image is damaged")
		}
		a.AverageColor = averageColor(img)
	}
	return a, nil
}

// averageColor returns the mean colour as #rrggbb, with each pixel weighted by its opacity.
func averageColor(img image.Image) string {
	var r, g, b, a uint64
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			pr, pg, pb, pa := img.At(x, y).RGBA() // already multiplied by pa, to 0xffff
			r, g, b, a = r+uint64(pr), g+uint64(pg), b+uint64(pb), a+uint64(pa)
		}
	}
	if a == 0 {
		return "" // fully transparent
	}
	return fmt.Sprintf("#%02x%02x%02x", r*0xff/a, g*0xff/a, b*0xff/a)
}
