package console

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
)

var (
	pictures    = flag.String("pictures", "", "`DIR` for pictures of the console's views")
	screenshots = flag.String("screenshots", "", "`DIR` for the two pictures of docs/console.md")
)

// picture saves pictures of a view in both colour schemes and on a phone, if the flag -pictures says where.
func picture(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	if *pictures == "" {
		return
	}
	name = regexp.MustCompile(`[^a-z]+`).ReplaceAllString(name, "-")
	for _, shot := range []struct {
		suffix, scheme string
		width          int64
	}{{"light", "light", 1280}, {"dark", "dark", 1280}, {"phone", "light", 375}} {
		tab.Resize(shot.width, 800)
		tab.Media("prefers-color-scheme", shot.scheme, "prefers-reduced-motion", "reduce")
		tab.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			b, err := chromedp.FullScreenshot(100)(ctx, target)
			if err == nil {
				err = os.WriteFile(filepath.Join(*pictures, name+"-"+shot.suffix+".png"), b, 0o644)
			}
			return chromedp.Void{}, err
		})
	}
	tab.Resize(1280, 900)
	tab.Media()
}

// With the flag -screenshots, this test makes the pictures of docs/console.md: a user of the demo. They look
// the same on every machine only if the font Inter is installed.
func TestConsoleScreenshots(t *testing.T) {
	if *screenshots == "" {
		return
	}
	demo := gatewaytest.Start(t, nil, "demo", "-listen", "127.0.0.1:0")
	demo.WaitForText("Ctrl-C stops")
	found := regexp.MustCompile(`(?m)^  (http://\S+/)\n  change +(\S+)\n`).FindStringSubmatch(demo.Output())
	alice := regexp.MustCompile(`(?m)^  alice .*\n +(\S+)\n`).FindStringSubmatch(demo.Output())
	gateway := regexp.MustCompile(`(?m)^  gateway +(\S+)$`).FindStringSubmatch(demo.Output())
	if found == nil || alice == nil || gateway == nil {
		t.Fatal(demo.Output())
	}
	for i := range 96 {
		path := []string{"analyze", "report", "drill", "analyze"}[i%4]
		r, _ := http.NewRequest("POST", gateway[1]+"/api/"+path, strings.NewReader("One text of many."))
		r.Header.Set("Authorization", "Bearer "+alice[1])
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	p := open(t, browsertest.Start(t), &gatewaytest.Process{Admin: strings.TrimSuffix(found[1], "/")}, found[2], "#/users/alice")
	p.Do(chromedp.EmulateViewport(1280, 800, chromedp.EmulateScale(2)))
	p.Until("shown('[data-limit=month]').includes('96 of 100')")
	p.Eval("press('Grant more'), fill('How many more', 20), fill('Reason', 'a busy week before the deadline')", nil)
	p.Eval("press('Grant 20 requests')", nil)
	p.Until("shown('[data-limit=month]').includes('96 of 120') && shown('#live') === 'Live'")
	p.wantLoaded()
	p.Eval("document.querySelector('.toast').remove(), document.activeElement.blur()", nil)
	for _, scheme := range []string{"light", "dark"} {
		p.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
		file := filepath.Join(*screenshots, "console-"+scheme+".png")
		p.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			b, err := chromedp.CaptureScreenshot()(ctx, target)
			if err == nil {
				err = os.WriteFile(file, b, 0o644)
			}
			return chromedp.Void{}, err
		})
		browsertest.ShrinkPicture(t, file)
	}
}
