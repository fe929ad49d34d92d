// Colours and sizes: an application sets the --usage-meter-* properties, or takes these.

export const LIGHT = `
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

export const DARK = `
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
