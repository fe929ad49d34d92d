package browsers

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"metergate/proxy/browser/browsertest"
)

var (
	pictures    = flag.String("pictures", "", "`DIR` for pictures of the demo's page in its states")
	screenshots = flag.String("screenshots", "", "`DIR` for the two pictures of the demo's page in the README")
)

// picture saves pictures of the page in both colour schemes and on a phone, if the flag
// -pictures says where.
func picture(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	if *pictures == "" {
		return
	}
	tab.Do(chromedp.EmulateViewport(1280, 800))
	for _, scheme := range []string{"light", "dark"} {
		tab.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		savePicture(t, tab, filepath.Join(*pictures, name+"-"+scheme+".png"))
	}
	tab.Do(chromedp.EmulateViewport(360, 740))
	savePicture(t, tab, filepath.Join(*pictures, name+"-phone.png"))
	tab.Do(chromedp.EmulateReset())
	tab.Media()
}

// With the flag -screenshots, this test makes the pictures of the README. They look the
// same on every machine only if the font Inter is installed.
func TestDemoScreenshots(t *testing.T) {
	if *screenshots == "" {
		return
	}
	b := browsertest.Start(t)
	tab := openDemo(t, b, startDemo(t), "alice")
	tab.Do(chromedp.EmulateViewport(1280, 800, chromedp.EmulateScale(2)))
	tab.Eval(`(async () => {
		(await import('/usage/chart.js')).UsageChart.timing.between = 100;
		const [{ token }] = await (await fetch('/demo/users.json')).json();
		for (const [name, n] of Object.entries({ analyze: 21, report: 9, drill: 8 })) {
			for (let i = 0; i < n; i++) await fetch('/api/' + name, { method: 'POST', body: 'One text of many, and another one.', headers: { Authorization: 'Bearer ' + token } });
		}
		document.getElementById('full').shadowRoot.querySelector('details').open = true;
	})()`, nil)
	tab.Want("text('full', 'count')", "38 of 100 used")
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count')", "39 of 100 used")
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('full', 'count')", "40 of 100 used")
	tab.Eval("press('Fail with')", nil)
	tab.Want("text('result-facts').slice(0, 3)", "500")
	tab.Eval("press('Take 3 seconds')", nil)
	tab.Want("text('full', 'running')", "1 running")
	tab.Eval("press('Redact')", nil)
	tab.Want("text('full', 'count')", "41 of 100 used")
	tab.Want("document.getElementById('days').shadowRoot.querySelector('tbody tr:last-child td').textContent", "41")
	for _, scheme := range []string{"light", "dark"} {
		tab.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		savePicture(t, tab, filepath.Join(*screenshots, "demo-"+scheme+".png"))
	}
	if running := tab.String("text('full', 'running')"); running != "1 running" {
		t.Errorf("%q when the pictures were made: taking them took too long, try again", running)
	}
	for _, scheme := range []string{"light", "dark"} {
		shrink(t, filepath.Join(*screenshots, "demo-"+scheme+".png"))
	}
}

// shrink gives a picture a palette of its 256 most frequent colours; there are few others.
// It fails the test if that does not make the picture small.
func shrink(t *testing.T, file string) {
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

func savePicture(t *testing.T, tab *browsertest.Tab, file string) {
	t.Helper()
	var b []byte
	tab.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		var err error
		if strings.HasSuffix(file, "-phone.png") {
			b, err = chromedp.FullScreenshot(100)(ctx, target)
		} else {
			b, err = chromedp.CaptureScreenshot()(ctx, target)
		}
		return chromedp.Void{}, err
	})
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
