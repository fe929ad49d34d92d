// Colours and sizes: an application sets the --usage-meter-* properties, or takes these.

const LIGHT = `
  color-scheme: light;
  --_background: var(--usage-meter-background, #ffffff);
  --_border: var(--usage-meter-border-color, #e3e6ea);
  --_text: var(--usage-meter-text-color, #15181d);
  --_muted: var(--usage-meter-muted-color, #5b6472);
  --_track: var(--usage-meter-track-color, #f0f2f5);
  --_ok: var(--usage-meter-color-ok, #1c8c4e);
  --_warning: var(--usage-meter-color-warning, #b98100);
  --_blocked: var(--usage-meter-color-blocked, #d92626);
  --_warning-text: var(--usage-meter-text-warning, #855700);
  --_blocked-text: var(--usage-meter-text-blocked, #b91c1c);
  --_prompt: var(--usage-meter-prompt-background, #f7f8fa);
  --_button: var(--usage-meter-button-background, #15181d);
  --_button-text: var(--usage-meter-button-color, #ffffff);
  --_shadow: var(--usage-meter-shadow, 0 1px 2px rgb(16 24 40 / 5%));
`;

const DARK = `
  color-scheme: dark;
  --_background: var(--usage-meter-background, #15171c);
  --_border: var(--usage-meter-border-color, #2a2e36);
  --_text: var(--usage-meter-text-color, #f1f3f5);
  --_muted: var(--usage-meter-muted-color, #9aa3b2);
  --_track: var(--usage-meter-track-color, #262a32);
  --_ok: var(--usage-meter-color-ok, #3ecf82);
  --_warning: var(--usage-meter-color-warning, #f2c14e);
  --_blocked: var(--usage-meter-color-blocked, #f47070);
  --_warning-text: var(--usage-meter-text-warning, #f2c14e);
  --_blocked-text: var(--usage-meter-text-blocked, #ff8f8f);
  --_prompt: var(--usage-meter-prompt-background, #1d2027);
  --_button: var(--usage-meter-button-background, #f1f3f5);
  --_button-text: var(--usage-meter-button-color, #15171c);
  --_shadow: var(--usage-meter-shadow, none);
`;

const SHARED = `
:host {
  ${LIGHT}
  display: block;
  font: 400 14px/1.43 var(--usage-meter-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  font-variant-numeric: tabular-nums;
  color: var(--_text);
  text-align: start;
}
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
:host([theme="dark"]) { ${DARK} }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }

.button {
  flex: none; padding: 7px 14px; border-radius: 7px;
  font: inherit; font-weight: 500; line-height: 20px; text-decoration: none;
  background: var(--_button); color: var(--_button-text); transition: opacity 150ms;
}
.button:hover { opacity: 0.86; }
/* A cross of two lines, so that it needs no text. */
.dismiss {
  position: relative; flex: none; width: 24px; height: 24px; padding: 0;
  border: 0; border-radius: 6px; background: none; color: var(--_muted); font: inherit; cursor: pointer;
}
.dismiss:hover { color: var(--_text); background: var(--_track); }
.dismiss::before, .dismiss::after {
  content: ""; position: absolute; inset: 11px 6px auto; height: 1.5px; border-radius: 1px;
  background: currentColor; transform: rotate(45deg);
}
.dismiss::after { transform: rotate(-45deg); }
:focus-visible { outline: 2px solid var(--usage-meter-focus-color, currentColor); outline-offset: 2px; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after, ::backdrop { animation: none !important; transition: none !important; }
}
@media (forced-colors: active) {
  .button { border: 1px solid LinkText; }
  .dismiss { border: 1px solid ButtonText; }
  .dismiss::before, .dismiss::after { forced-color-adjust: none; background: ButtonText; }
}
`;

const sheets = new Map();

/** The style sheet with these rules, which all elements of a page share. @param {string} css */
function sheetWith(css) {
  let sheet = sheets.get(css);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    sheets.set(css, sheet);
  }
  return sheet;
}

/** The style sheets of an element: what all elements share, and its own rules. @param {string} css */
export const sheetsOf = (css) => [sheetWith(SHARED), sheetWith(css)];
