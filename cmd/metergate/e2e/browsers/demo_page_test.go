package browsers

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
)

var urlLine = regexp.MustCompile(`(?m)^  (http://[^/ ]+)/$`)

// startDemo runs a demo. The first address that it prints is that of its page.
func startDemo(t *testing.T) (url string) {
	t.Helper()
	demo := gatewaytest.Start(t, nil, "demo", "-listen", "127.0.0.1:0")
	demo.WaitForText("Ctrl-C stops")
	found := urlLine.FindStringSubmatch(demo.Output())
	if found == nil || strings.Index(demo.Output(), "http://") != strings.Index(demo.Output(), found[1]) {
		t.Fatalf("the page does not come first:\n%s", demo.Output())
	}
	return found[1]
}

// openDemo opens the page as one of the users. The scripts in before run before those of the page.
func openDemo(t *testing.T, b *browsertest.Browser, url, user string, before ...string) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, url+"/#"+user, strings.Join(before, "\n")+`
		addEventListener('securitypolicyviolation', (e) => console.error('violates ' + e.violatedDirective + ' ' + e.blockedURI));
		window.text = (id, part) => {
			const node = document.getElementById(id);
			const shown = part ? node.shadowRoot.querySelector('[part="' + part + '"]') : node;
			return shown.checkVisibility() ? shown.innerText.trim().replace(/\s+/g, ' ') : '';
		};
		window.press = (name) => [...document.querySelectorAll('button')].find((b) => b.firstChild.textContent.trim() === name && !b.disabled).click();
		window.rows = () => [...document.querySelectorAll('#requests summary')].map((s) => s.innerText.trim().replace(/\s+/g, ' '));`)
	tab.Want("text('connection')", "Live")
	tab.Want("document.querySelector('[name=user]:checked').value", user)
	return tab
}

// wantQuietConsole fails the test if the page has written to the console. What the browser
// itself writes about failed responses does not count.
func wantQuietConsole(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	for _, line := range tab.Console() {
		if !strings.Contains(line, "the server responded with a status of") {
			t.Errorf("the console has %s", line)
		}
	}
}

// The page makes calls and shows how each of them counts, without being loaded again.
func TestDemoPageShowsCalls(t *testing.T) {
	tab := openDemo(t, browsertest.Start(t), startDemo(t), "alice")
	var loads, now float64
	tab.Eval("performance.timeOrigin", &loads)
	tab.Want("text('full', 'count')", "0 of 100 used")
	tab.Want("text('requests-empty').startsWith('Your requests appear here')", "true")
	picture(t, tab, "empty")
	if lines := tab.Console(); len(lines) > 0 {
		t.Errorf("the console has %q", lines)
	}
	analyzeTexts(t, tab)
	analyzeImages(t, tab)
	makeSlowAndManyCalls(t, tab)
	tab.Eval("performance.timeOrigin", &now)
	if now != loads {
		t.Error("the page was loaded again")
	}
	wantQuietConsole(t, tab)
}

// analyzeTexts makes calls about texts, of which some fail.
func analyzeTexts(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count') + text('small', 'count')", "1 of 100 used1/100")
	tab.Want("rows().length + text('result-facts').slice(0, 3)", "1200")
	tab.Want("/^200 analyze 1.100 \"month\";r=99;t=\\d+ [\\d.]+ m?s$/.test(rows()[0])", "true")
	tab.Want("document.title", "1/100 · Metergate demo")
	tab.Want("document.querySelector('.verdict').innerText.trim()", "Counted. X-Usage is 1/100.")

	// Calls that fail do not move the count.
	for i, status := range []string{"500", "404", "abort"} {
		tab.Eval("document.getElementById('fail-status').value = '"+status+"', press('Fail with')", nil)
		tab.Want("rows().length + text('result-facts').slice(0, 3)", fmt.Sprint(2+i)+strings.Replace(status, "abort", "502", 1))
		tab.Want("document.querySelector('.verdict').innerText.trim()", "Not counted. The request failed, so the gateway gave back what it held. X-Usage is 1/100.")
	}
	tab.Want("text('full', 'count')", "1 of 100 used")

	for i, name := range []string{"Redact", "Report", "Drill"} {
		tab.Eval("press('"+name+"')", nil)
		tab.Want("text('full', 'count') + rows()[0].slice(0, 7)", fmt.Sprint(2+i, " of 100 used200 "+strings.ToLower(name)[:3]))
		tab.Until("document.querySelector('#result .answer').innerText.length > 30")
		picture(t, tab, strings.ToLower(name))
	}
}

// analyzeImages makes calls about the image of the page, a file that is chosen, and a file
// that is dropped and is no image.
func analyzeImages(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('full', 'count')", "5 of 100 used")
	tab.Want("text('result').includes('480 × 270')", "true")
	picture(t, tab, "image")
	tab.Do(chromedp.SetUploadFiles("#file", []string{pictureFile(t)}))
	tab.Want("text('image-name') + text('image-facts')", "red.png30 × 20, "+fmt.Sprint(len(redPNG()), " bytes"))
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('full', 'count')", "6 of 100 used")
	tab.Want("text('result').includes('30 × 20') && text('result').includes('#ff0000')", "true")
	tab.Eval(`(() => {
		const data = new DataTransfer();
		data.items.add(new File(['no image'], 'note.txt', { type: 'text/plain' }));
		document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
	})()`, nil)
	tab.Want("text('image-name')", "note.txt")
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('result').includes('Not a PNG, JPEG or GIF image.') + text('full', 'count')", "true6 of 100 used")
}

// makeSlowAndManyCalls makes a call that is pending for a while, then enough calls to reach
// the limit.
func makeSlowAndManyCalls(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	// What the page shows meanwhile is recorded: a busy machine may look at it too late.
	tab.Eval(`(() => {
		window.shown = [];
		const note = new MutationObserver(() => shown.push(text('full', 'running') + text('small', 'count'), 'busy: ' + document.getElementById('slow').ariaBusy));
		for (const node of [document, document.getElementById('full').shadowRoot, document.getElementById('small').shadowRoot]) {
			note.observe(node, { subtree: true, childList: true, characterData: true, attributes: true });
		}
	})()`, nil)
	tab.Eval("press('Take 3 seconds')", nil)
	tab.Until("shown.includes('1 running6/100, 1 running')")
	tab.Until("shown.includes('busy: true')")
	picture(t, tab, "pending")
	tab.Want("text('full', 'count') + text('full', 'running')", "7 of 100 used")

	tab.Eval("press('50 at once')", nil)
	tab.Want("text('full', 'count') + text('result').includes('50 counted.')", "57 of 100 usedtrue")
	tab.Want("document.querySelectorAll('.dots .ok').length", "50")
	picture(t, tab, "burst")
	tab.Eval("press('50 at once')", nil)
	tab.Want("text('full', 'count') + text('result').includes('43 counted, 7 refused.')", "100 of 100 usedtrue")
	tab.Want("text('full', 'prompt-title')", "Your last request was refused")
	// However many were refused, one dialog says so.
	tab.Until("document.querySelector('usage-upgrade').open")
}

// The chart has the numbers of the gateway, and follows the calls of today.
func TestDemoPageShowsDays(t *testing.T) {
	tab := openDemo(t, browsertest.Start(t), startDemo(t), "alice")
	tab.Eval("(async () => { (await import('/usage/chart.js')).UsageChart.timing.between = 100; })()", nil)
	tab.Eval(`void (window.days = () => [...document.getElementById('days').shadowRoot.querySelectorAll('tbody tr')].map((row) => [...row.children].slice(1).map((cell) => +cell.textContent)),
		window.answer = async () => {
			const [{ token }] = await (await fetch('/demo/users.json')).json();
			const { days } = await (await fetch('/usage/history?days=30', { headers: { Authorization: 'Bearer ' + token } })).json();
			const endpoints = [...new Set(days.flatMap((day) => Object.keys(day.endpoints)))].sort();
			return days.map((day) => [day.used, ...endpoints.map((name) => day.endpoints[name]?.used ?? 0)]);
		})`, nil)
	tab.Until("JSON.stringify(days()) === JSON.stringify(await answer())")
	tab.Want("days().length + ' ' + days().at(-1)[0]", "30 0")
	tab.Want("days().filter(([used]) => used > 0).length > 15", "true") // sample days
	tab.Want("text('full', 'count')", "0 of 100 used")
	tab.Eval("press('Analyze'), press('Report')", nil)
	tab.Want("text('full', 'count') + ' ' + days().at(-1)[0]", "2 of 100 used 2")
	tab.Until("JSON.stringify(days()) === JSON.stringify(await answer())")
	// Another user has other days, in credits.
	tab.Eval("document.querySelector('[value=bob]').click()", nil)
	tab.Until("/ credits/.test(text('days', 'count'))")
	wantQuietConsole(t, tab)
}

// Browsers take a while to draw an image, and longer if they are busy. A request that is made before that
// waits for it, and sends the image that was chosen last.
func TestDemoPageWaitsForImages(t *testing.T) {
	tab := openDemo(t, browsertest.Start(t), startDemo(t), "alice", `
		window.held = []; // images that are being drawn
		window.hold = (name) => new Promise((go) => held.push({ name, go }));
		HTMLCanvasElement.prototype.toBlob = ((toBlob) => async function (...args) {
			await hold('the sample');
			toBlob.apply(this, args);
		})(HTMLCanvasElement.prototype.toBlob);
		window.createImageBitmap = ((create) => async (file) => {
			await hold(file.name);
			return create(file).finally(() => { window.last = file.name; });
		})(createImageBitmap);
		window.choose = (name, width, height) => {
			const canvas = new OffscreenCanvas(width, height);
			canvas.getContext('2d').fillRect(0, 0, width, height);
			return canvas.convertToBlob().then((blob) => {
				const data = new DataTransfer();
				data.items.add(new File([blob], name, { type: blob.type }));
				document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
			});
		};`)
	sent := "(({ width, height }) => width + ' × ' + height)(document.querySelector('#result canvas'))"
	tab.Want("held.map((h) => h.name).join()", "the sample")
	tab.Eval("press('Analyze image')", nil)
	tab.Want("document.querySelector('[data-call=image-analysis]').ariaBusy + ' ' + rows().length", "true 0")
	tab.Eval("held[0].go()", nil)
	tab.Want("text('full', 'count')", "1 of 100 used")
	tab.Until("document.querySelector('#result canvas')")
	tab.Want(sent+" + ' ' + text('result').includes('480 × 270')", "480 × 270 true")

	tab.Eval("choose('first.png', 30, 20)", nil)
	tab.Eval("choose('second.png', 50, 40)", nil)
	tab.Want("held.slice(1).map((h) => h.name).join()", "first.png,second.png")
	tab.Eval("press('Analyze image')", nil)
	tab.Eval("held[2].go()", nil)
	tab.Want("text('full', 'count') + ' ' + text('image-name')", "2 of 100 used second.png")
	tab.Until("document.querySelector('#result canvas')")
	tab.Want(sent+" + ' ' + text('result').includes('50 × 40')", "50 × 40 true")
	tab.Eval("held[1].go()", nil)
	tab.Want("last", "first.png")
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('full', 'count') + ' ' + text('image-name')", "3 of 100 used second.png")
	wantQuietConsole(t, tab)
}

// The page changes its user. At the limit it leads to a bigger plan.
func TestDemoPageChangesUsers(t *testing.T) {
	tab := openDemo(t, browsertest.Start(t), startDemo(t), "bob")
	tab.Want("text('full', 'count') + text('full', 'plan')", "0 of 5,000 credits usedPro")
	// An image costs bob 5 credits. Their button says so, as carol's does not.
	tab.Want("document.querySelector('[data-call=image-analysis]').innerText.replace(/\\s+/g, ' ')", "Analyze image 5 credits")
	tab.Eval("press('Analyze image')", nil)
	tab.Want("text('full', 'count') + text('small', 'count')", "5 of 5,000 credits used5/5,000")
	tab.Want("document.querySelector('.verdict').innerText.trim()", "Counted. X-Usage-Cost is 5. X-Usage is 5/5000.")
	picture(t, tab, "credits")
	tab.Eval("document.querySelector('[value=carol]').click()", nil)
	tab.Want("text('full', 'count') + text('full', 'plan') + location.hash", "98 of 100 usedFree#carol")
	tab.Want("document.querySelector('[data-call=image-analysis]').innerText.trim()", "Analyze image")
	for _, want := range []string{"99", "100"} {
		tab.Eval("press('Report')", nil)
		tab.Want("text('full', 'count')", want+" of 100 used")
	}
	tab.Want("rows().length", "3")
	picture(t, tab, "limit")
	tab.Eval("press('Report')", nil)
	tab.Want("text('full', 'prompt-title') + text('result-facts').slice(0, 3)", "Your last request was refused429")
	tab.Want("text('result').includes('Refused. The request did not reach the API. X-Usage is 100/100.')", "true")
	tab.Want("/^429 report 100.100 Retry-After: \\d+ /.test(rows()[0])", "true")
	picture(t, tab, "refused")
	// The dialog leads to a bigger plan.
	tab.Until("document.querySelector('usage-upgrade').open")
	picture(t, tab, "dialog")
	tab.Eval("document.querySelector('usage-upgrade').shadowRoot.querySelector('[part=upgrade-button]').click()", nil)
	tab.Want("text('upgrade-url')", "https://example.com/pricing")
	picture(t, tab, "upgrade")
	tab.Eval("press('Continue as bob, on the pro plan')", nil)
	tab.Want("text('full', 'count') + text('full', 'prompt')", "5 of 5,000 credits used")
	tab.Eval("press('Report')", nil)
	tab.Want("text('full', 'count')", "6 of 5,000 credits used")
	wantQuietConsole(t, tab)
}

// A streamed answer appears word by word. Until it has ended, the gateway has counted its least price and
// holds the rest of the highest; then the tokens set the price.
func TestDemoPageStreamsChat(t *testing.T) {
	tab := openDemo(t, browsertest.Start(t), startDemo(t), "bob")
	tab.Want("document.querySelector('[data-call=chat]').innerText.replace(/\\s+/g, ' ')", "Chat up to 20 credits")
	// What the page shows while the answer arrives is recorded: on a slow machine it may be over soon.
	tab.Eval(`void (window.seen = [], new MutationObserver(() => {
		const said = document.querySelector('#result .quote')?.innerText;
		if (said) seen.push(document.querySelector('.verdict').innerText.trim() + ' ' + text('full', 'count') + ' ' + said);
	}).observe(document.getElementById('result'), { childList: true }))`, nil)
	used := 0
	for try := range 3 { // a machine may be so busy that the page first looks when all has arrived
		tab.Eval("press('Chat')", nil)
		tab.Want("rows().length + ' ' + document.querySelector('.verdict').innerText.startsWith('Counted. X-Usage-Cost was 1')", fmt.Sprint(try+1, " true"))
		var tokens int
		tab.Eval("+document.querySelector('#result .figures dd').innerText", &tokens)
		if tokens <= 40 {
			t.Fatalf("%d tokens, too few to tell its price from the least", tokens)
		}
		atFirst := fmt.Sprintf("seen.some((s) => /^Counted so far. X-Usage-Cost is 1. .* %d of 5,000 credits used I have read/.test(s))", used+1)
		used += (tokens + 19) / 20
		tab.Want("text('full', 'count')", fmt.Sprint(used, " of 5,000 credits used"))
		if tab.String(atFirst) == "true" {
			break
		}
		if try == 2 {
			t.Errorf("the page has shown %s", tab.String("seen.join('; ')"))
		}
	}
	picture(t, tab, "chat")
	wantQuietConsole(t, tab)
}

// redPNG is an image of one colour.
func redPNG() []byte {
	img := image.NewPaletted(image.Rect(0, 0, 30, 20), color.Palette{color.RGBA{R: 255, A: 255}})
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func pictureFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "red.png")
	if err := os.WriteFile(file, redPNG(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The page finds a demo again that ended and came back with other tokens.
func TestDemoPageRecovers(t *testing.T) {
	b := browsertest.Start(t)
	dir := t.TempDir()
	run := func(listen string) (*gatewaytest.Process, string) {
		demo := gatewaytest.Start(t, nil, "demo", "-listen", listen, "-data", dir)
		demo.WaitForText("Ctrl-C stops")
		return demo, urlLine.FindStringSubmatch(demo.Output())[1]
	}
	demo, url := run("127.0.0.1:0")
	tab := openDemo(t, b, url, "alice")
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count')", "1 of 100 used")
	demo.Signal(syscall.SIGTERM)
	<-demo.Done()
	tab.Want("text('connection') + text('banner').slice(0, 31)", "OfflineThe gateway does not answer. The n"[:len("Offline")+31])
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('result').startsWith('No response')", "true")
	picture(t, tab, "offline")
	run(strings.TrimPrefix(url, "http://"))
	tab.Want("text('connection') + text('banner')", "Live")
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count')", "2 of 100 used")
}
