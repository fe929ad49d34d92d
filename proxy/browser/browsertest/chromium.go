package browsertest

import (
	"context"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// A chromium is a running Chromium, as the context that chromedp wants.
type chromium struct{ ctx context.Context }

func startChromium(t testing.TB, path string) process {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // containers run tests as root
		chromedp.DisableGPU,
		chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.Env("LANGUAGE=en_US", "TZ=UTC"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		// Wait for the browser to end, so that its profile can be removed.
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log("closing the browser:", err)
		}
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("starting chromium: ", err)
	}
	return chromium{ctx}
}

func (c chromium) open(before string, _ page, console func(string)) (page, error) {
	ctx, cancel := chromedp.NewContext(c.ctx)
	p := &chromiumPage{ctx, cancel}
	if err := chromedp.Do(ctx); err != nil { // makes the tab; with a timeout the tab would end with it
		return nil, err
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			console(m.String())
		}
	}()
	if before == "" {
		return p, nil
	}
	_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: before})
	return p, err
}

// A chromiumPage is a tab of Chromium.
type chromiumPage struct {
	ctx context.Context // of chromedp
	end context.CancelFunc
}

// do runs actions on a tab until ctx ends.
func (p *chromiumPage) do(ctx context.Context, actions ...chromedp.Action[chromedp.Void]) error {
	own, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return chromedp.Do(own, actions...)
}

// command is an action that sends a command of the protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, c, params)
		return chromedp.Void{}, err
	}
}

func (p *chromiumPage) navigate(ctx context.Context, url string) error {
	return p.do(ctx, chromedp.Navigate(url))
}

func (p *chromiumPage) reload(ctx context.Context) error { return p.do(ctx, chromedp.Reload()) }

func (p *chromiumPage) evaluate(ctx context.Context, expression string) (text string, err error) {
	err = p.do(ctx, func(ctx context.Context, target *chromedp.Target) (none chromedp.Void, err error) {
		text, err = chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise)(ctx, target)
		return none, err
	})
	return text, err
}

func (p *chromiumPage) media(ctx context.Context, features []string) error {
	var params emulation.SetEmulatedMediaParams
	for pair := range slices.Chunk(features, 2) {
		params.Features = append(params.Features, &emulation.MediaFeature{Name: pair[0], Value: pair[1]})
	}
	return p.do(ctx, command(emulation.SetEmulatedMedia, params))
}

func (p *chromiumPage) resize(ctx context.Context, width, height int64) error {
	return p.do(ctx, chromedp.EmulateViewport(width, height))
}

func (p *chromiumPage) freeze(ctx context.Context) error {
	return p.do(ctx, command(cdppage.SetWebLifecycleState, cdppage.SetWebLifecycleStateParams{State: cdppage.SetWebLifecycleStateStateFrozen}))
}

func (p *chromiumPage) thaw(ctx context.Context) error {
	return p.do(ctx, command(cdppage.SetWebLifecycleState, cdppage.SetWebLifecycleStateParams{State: cdppage.SetWebLifecycleStateStateActive}))
}

func (p *chromiumPage) close(ctx context.Context) error {
	return p.do(ctx, command(cdppage.Close, cdp.Empty{}))
}

func (p *chromiumPage) discard() { p.end() }

// Do runs actions of chromedp. The tab must be one of Chromium.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	p, ok := tab.page.(*chromiumPage)
	if !ok {
		tab.t.Fatal("Do is for Chromium only")
	}
	tab.do("in the browser", func(ctx context.Context) error { return p.do(ctx, actions...) })
}
