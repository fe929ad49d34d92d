export const STYLE = `
:host { display: contents; }
dialog {
  visibility: visible; /* whatever it is in: an open dialog that is not seen blocks the page */
  margin: auto; width: min(420px, calc(100% - 32px)); max-width: none; max-height: calc(100% - 32px);
  padding: 0; overflow: auto; overscroll-behavior: contain;
  background: var(--_background); color: inherit;
  border: 1px solid var(--_border); border-radius: var(--usage-meter-dialog-radius, 16px);
  box-shadow: 0 24px 56px -12px rgb(16 24 40 / 28%);
  font: 400 14px/1.5 var(--usage-meter-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  animation: rise 180ms cubic-bezier(0.2, 0.7, 0.2, 1);
}
dialog:focus { outline: none; }
dialog::backdrop { background: rgb(12 15 20 / 48%); animation: fade 180ms ease-out; }
@keyframes rise { from { opacity: 0; transform: translateY(8px) scale(0.985); } }
@keyframes fade { from { opacity: 0; } }

.content { padding: var(--usage-meter-dialog-padding, 22px 24px 24px); }
.head { display: flex; align-items: flex-start; justify-content: space-between; gap: 12px; }
h2 { font: inherit; font-size: 18px; line-height: 26px; font-weight: 600; text-wrap: balance; }
.dismiss { margin-block-start: 1px; margin-inline-end: -4px; }
.prompt-text { margin-top: 6px; color: var(--_muted); overflow-wrap: anywhere; text-wrap: pretty; }

.usage {
  --_status: var(--_ok);
  margin-top: 18px; padding: 14px 16px; border-radius: 10px; background: var(--_prompt);
}
.usage.warning { --_status: var(--_warning); }
.usage.blocked { --_status: var(--_blocked); }
.row { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 2px 12px; }
.label { font-weight: 500; overflow-wrap: anywhere; }
.count, .foot { color: var(--_muted); font-size: 13px; }
.bar {
  display: flex; overflow: hidden; margin-block: 10px;
  height: var(--usage-meter-bar-height, 8px); border-radius: 99px; background: var(--_track);
}
.fill { flex: none; width: var(--_used, 0%); border-radius: inherit; background-color: var(--_status); }
.plan { text-transform: capitalize; }

.buttons { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 8px; margin-top: 20px; }
.buttons .button { padding: 8px 16px; border: 1px solid transparent; border-radius: 8px; text-align: center; cursor: pointer; }
.buttons .plain { background: none; border-color: var(--_border); color: var(--_text); }
.buttons .plain:hover { opacity: 1; background: var(--_prompt); }
@media (max-width: 380px) {
  .buttons { flex-direction: column-reverse; }
}
@media (forced-colors: active) {
  dialog { border-color: CanvasText; }
  .bar { border: 1px solid CanvasText; background: Canvas; }
  .fill { forced-color-adjust: none; background-color: CanvasText; }
  .blocked .fill { background-color: Mark; }
  .usage { border: 1px solid CanvasText; }
  .buttons .button { border: 1px solid ButtonText; }
  .buttons a.button { border-color: LinkText; }
}
`;
