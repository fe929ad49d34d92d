package browsers

import (
	"context"
	"flag"
	"os"
	"path/filepath"
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
		browsertest.ShrinkPicture(t, filepath.Join(*screenshots, "demo-"+scheme+".png"))
	}
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
