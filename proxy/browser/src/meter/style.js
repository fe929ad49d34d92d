export const STYLE = `
.card {
  --_status: var(--_ok);
  --_status-text: var(--_muted);
  padding: var(--usage-meter-padding, 20px);
  background: var(--_background);
  border: 1px solid var(--_border);
  border-radius: var(--usage-meter-radius, 12px);
  box-shadow: var(--_shadow);
}
.warning { --_status: var(--_warning); --_status-text: var(--_warning-text); }
.blocked { --_status: var(--_blocked); --_status-text: var(--_blocked-text); }
.card.stale, .card.empty { --_status: var(--_muted); }

.row { display: flex; align-items: baseline; justify-content: space-between; gap: 4px 12px; flex-wrap: wrap; }
.label { font-weight: 500; color: var(--_muted); }
.plan {
  padding: 1px 8px; border: 1px solid var(--_border); border-radius: 99px;
  font-size: 12px; line-height: 18px; color: var(--_muted); text-transform: capitalize;
}
.figures { margin-top: 6px; }
.used { font-size: 30px; line-height: 38px; font-weight: 600; letter-spacing: -0.02em; }
.limit, .remaining { color: var(--_muted); }
.stale .used, .empty .used { color: var(--_muted); }

.bar {
  display: flex; overflow: hidden; margin-top: 10px;
  height: var(--usage-meter-bar-height, 8px);
  border-radius: 99px; background: var(--_track);
}
.fill, .pending { flex: none; transition: width 450ms cubic-bezier(0.2, 0.7, 0.2, 1), background-color 250ms; }
.fill {
  width: var(--_used, 0%); min-width: var(--_least, 0);
  border-radius: inherit; background-color: var(--_status);
}
.fill { position: relative; }
/* Begins under the rounded end of the filled part. */
.pending {
  width: calc(var(--_pending, 0%) + 6px); margin-inline-start: -6px; visibility: hidden;
  background-color: color-mix(in srgb, var(--_status) 42%, var(--_track)); border-start-end-radius: 99px; border-end-end-radius: 99px;
}
.pending.some { visibility: visible; min-width: 12px; animation: breathe 1.6s ease-in-out infinite; }
.stale .fill { opacity: 0.55; }
.loading .bar { animation: breathe-track 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.45; } }
@keyframes breathe-track { 50% { opacity: 0.5; } }

.pool { --_status: var(--_ok); margin-top: 14px; font-size: 13px; color: var(--_muted); }
.pool.blocked { --_status: var(--_blocked); }
.pool.blocked .pool-count { color: var(--_blocked-text); }
.pool-bar { display: flex; overflow: hidden; margin-top: 6px; height: 6px; border-radius: 99px; background: var(--_track); }
.stale .pool { --_status: var(--_muted); }

.foot { margin-top: 10px; font-size: 13px; color: var(--_muted); }
.foot > span:first-child { display: inline-flex; flex-wrap: wrap; gap: 0 12px; }
.status { display: inline-flex; align-items: center; gap: 6px; font-weight: 500; color: var(--_status-text); }
.dot { flex: none; width: 8px; height: 8px; border-radius: 50%; background: var(--_status); }
/* What is used up beside the headline. The card has at most the colour of a warning for it. */
.attention { overflow-wrap: anywhere; }
.stale .attention { --_status: var(--_muted); --_status-text: var(--_muted); }
.running { margin-inline-start: auto; display: inline-flex; align-items: center; gap: 6px; }
.running .dot { background: var(--_muted); animation: breathe 1.6s ease-in-out infinite; }
.price, .notice, .carried, .pool-carried { margin-top: 8px; font-size: 13px; color: var(--_muted); }

details { margin-top: 14px; padding-top: 10px; border-top: 1px solid var(--_border); font-size: 13px; }
summary {
  display: flex; align-items: center; gap: 6px; width: fit-content; min-height: 24px;
  color: var(--_muted); font-weight: 500; cursor: pointer; list-style: none; border-radius: 4px;
}
summary:hover { color: var(--_text); }
summary::-webkit-details-marker { display: none; }
summary::before {
  content: ""; width: 6px; height: 6px; margin-inline: 1px 3px; flex: none;
  border: solid currentColor; border-width: 0 1.5px 1.5px 0;
  transform: rotate(-45deg); transition: transform 150ms;
}
summary:dir(rtl)::before { transform: rotate(135deg); }
details[open] summary::before { transform: rotate(45deg); }
ul { list-style: none; padding: 8px 0 2px; display: grid; gap: 8px; }
li { display: grid; grid-template-columns: minmax(0, 1fr) 72px minmax(64px, auto); align-items: center; gap: 12px; }
li.wide { grid-template-columns: minmax(0, 1fr) auto; gap: 3px 12px; }
li.wide .bar { order: 1; grid-column: 1 / -1; }
li .name { overflow-wrap: anywhere; }
li .value { text-align: end; color: var(--_muted); }
li .bar { margin: 0; height: 4px; }
li .fill { background-color: var(--_row, var(--_muted)); border-radius: inherit; }
li.ok { --_row: var(--_ok); }
li.warning { --_row: var(--_warning); }
li.blocked { --_row: var(--_blocked); }
li.warning .value { color: var(--_warning-text); }
li.blocked .value { color: var(--_blocked-text); }
.stale li { --_row: var(--_muted); }

.prompt {
  display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 12px;
  position: relative; margin-top: 16px; padding: 12px 14px; padding-inline-end: 38px;
  border-radius: 8px; background: var(--_prompt);
  animation: appear 250ms ease-out;
}
.prompt > div { flex: 1 1 180px; }
.prompt .dismiss { position: absolute; inset-block-start: 8px; inset-inline-end: 8px; }
.prompt-title { font-weight: 600; }
.prompt-text { margin-top: 2px; font-size: 13px; color: var(--_muted); }
@keyframes appear { from { opacity: 0; transform: translateY(4px); } }

/* Two lines and a bar between them, for a sidebar. */
:host([compact]) { font-size: 13px; }
:host([compact]) .card {
  display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px;
  padding: var(--usage-meter-padding, 0); border: 0; border-radius: 0; box-shadow: none;
  background: var(--usage-meter-background, transparent);
}
:host([compact]) .card > * { margin: 0; }
:host([compact]) .figures, :host([compact]) .bar { flex: 1 0 100%; }
:host([compact]) .figures { flex-wrap: nowrap; min-width: 0; }
:host([compact]) .label { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
:host([compact]) .count { white-space: nowrap; }
:host([compact]) .used { font-size: inherit; line-height: inherit; letter-spacing: 0; font-weight: 500; }
:host([compact]) .bar { height: var(--usage-meter-bar-height, 4px); }
:host([compact]) .foot, :host([compact]) .price, :host([compact]) .notice { font-size: 12px; }
:host([compact]) .prompt { flex-wrap: nowrap; gap: 4px; margin-inline-start: auto; padding: 0; background: none; }
:host([compact]) .dismiss { position: relative; inset: auto; }
/* The reason is read out, and shown when the mouse rests on the button. */
:host([compact]) .prompt > div { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
:host([compact]) .button { padding: 2px 10px; border-radius: 6px; font-size: 12px; }

@media (forced-colors: active) {
  .bar, .pool-bar { border: 1px solid CanvasText; background: Canvas; }
  .fill, .dot { forced-color-adjust: none; background-color: CanvasText; }
  .blocked .fill { background-color: Mark; }
  .pending { forced-color-adjust: none; background-color: GrayText; opacity: 1; }
  .prompt { border: 1px solid CanvasText; }
}
`;
