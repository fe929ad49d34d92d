package browsertest

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"slices"
	"testing"
)

// ShrinkPicture gives a picture, a PNG file, a palette of its 256 most frequent colours; there are few others.
// It fails the test if that does not make the picture small.
func ShrinkPicture(t testing.TB, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	each := func(f func(x, y int, c color.RGBA)) {
		for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
			for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
				f(x, y, color.RGBAModel.Convert(img.At(x, y)).(color.RGBA))
			}
		}
	}
	each(func(_, _ int, c color.RGBA) { count[c]++ })
	colors := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	// The most frequent colours are greys. Colours that differ much from all others come
	// first, or the palette would have greys only.
	var palette color.Palette
	for distance := 48; len(palette) < 256 && distance >= 0; distance /= 2 {
		for _, c := range colors {
			if len(palette) == 256 {
				break
			}
			if len(palette) == 0 || apart(c, palette[palette.Index(c)].(color.RGBA)) > distance {
				palette = append(palette, c)
			}
		}
		if distance == 0 {
			break
		}
	}
	index := make(map[color.RGBA]uint8, len(count))
	for c := range count {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(img.Bounds(), palette)
	each(func(x, y int, c color.RGBA) { small.SetColorIndex(x, y, index[c]) })
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		t.Fatal(err)
	}
	if out.Len() >= 200<<10 {
		t.Errorf("%s has %d KiB, want less than 200", file, out.Len()>>10)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// apart is how much two colours differ in the channel in which they differ most.
func apart(a, b color.RGBA) int {
	diff := func(x, y uint8) int { return max(int(x), int(y)) - min(int(x), int(y)) }
	return max(diff(a.R, b.R), diff(a.G, b.G), diff(a.B, b.B))
}
