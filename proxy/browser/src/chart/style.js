// The colours of the endpoints. Each has a contrast of at least 3:1 with the background, and
// each two differ, also for people who do not tell red from green or blue from yellow.
const LIGHT = `
  --_s1: var(--usage-meter-series-1, #3052f7);
  --_s2: var(--usage-meter-series-2, #f26b01);
  --_s3: var(--usage-meter-series-3, #0e644b);
  --_s4: var(--usage-meter-series-4, #aa229c);
  --_s5: var(--usage-meter-series-5, #17194b);
  --_s0: var(--usage-meter-series-other, #858e9a);
`;
const DARK = `
  --_s1: var(--usage-meter-series-1, #4b83ff);
  --_s2: var(--usage-meter-series-2, #f3954c);
  --_s3: var(--usage-meter-series-3, #24d0b8);
  --_s4: var(--usage-meter-series-4, #cf42b5);
  --_s5: var(--usage-meter-series-5, #f1f4f8);
  --_s0: var(--usage-meter-series-other, #636566);
`;

export const STYLE = `
:host { ${LIGHT} container-type: inline-size; }
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
:host([theme="dark"]) { ${DARK} }

.card {
  position: relative;
  padding: var(--usage-meter-padding, 20px);
  background: var(--_background);
  border: 1px solid var(--_border);
  border-radius: var(--usage-meter-radius, 12px);
  box-shadow: var(--_shadow);
}
.label { font-weight: 500; color: var(--_muted); }
.figures { display: flex; align-items: baseline; justify-content: space-between; flex-wrap: wrap; gap: 0 12px; margin-top: 6px; }
.total { font-size: 24px; line-height: 32px; font-weight: 600; letter-spacing: -0.02em; }
.unit, .when { color: var(--_muted); }
.stale .total { color: var(--_muted); }

.plot { height: var(--usage-meter-chart-height, 128px); margin-top: 10px; border-radius: 4px; touch-action: pan-y; cursor: default; }
svg { display: block; }
.plot svg { width: 100%; height: 100%; overflow: visible; }
.plot text { font-size: 11px; fill: var(--_muted); color: var(--_muted); }
.grid { stroke: var(--_border); stroke-width: 1; }
.base { stroke: color-mix(in srgb, var(--_muted) 60%, var(--_border)); }
.band { fill: var(--_track); }
.ghost { fill: var(--_track); }
.loading .plot { animation: breathe 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.5; } }
.stale .series { opacity: 0.55; }
.pace-line { stroke: var(--_text); stroke-width: 1.5; stroke-dasharray: 4 3; }
/* Keeps the line visible on bars. */
.pace-edge { stroke: var(--_background); stroke-width: 3.5; stroke-dasharray: 4 3; }
@media not (forced-colors: active) {
  .s0 { fill: var(--_s0); }
  .s1 { fill: var(--_s1); }
  .s2 { fill: var(--_s2); }
  .s3 { fill: var(--_s3); }
  .s4 { fill: var(--_s4); }
  .s5 { fill: var(--_s5); }
}

.legend { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 190px), 1fr)); gap: 4px 28px; margin-top: 12px; padding: 0; list-style: none; font-size: 13px; }
li { display: flex; align-items: baseline; gap: 8px; min-width: 0; }
li svg { flex: none; align-self: start; margin-top: 3px; }
.name { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.value { color: var(--_muted); white-space: nowrap; }
.undrawn svg { visibility: hidden; }
.notice { margin-top: 10px; font-size: 13px; color: var(--_muted); }
.without .notice {
  display: grid; place-items: center; min-height: var(--usage-meter-chart-height, 128px); padding: 12px;
  border-radius: 8px; background: var(--_prompt); text-align: center; text-wrap: balance;
}
.forecast { display: flex; gap: 8px; margin-top: 12px; padding-top: 10px; border-top: 1px solid var(--_border); font-size: 13px; }
.dot { flex: none; width: 8px; height: 8px; margin-top: 5px; border-radius: 50%; background: var(--_ok); }
.exhausts .dot { background: var(--_warning); }
.reached .dot { background: var(--_blocked); }

@container (max-width: 280px) {
  .card { padding: var(--usage-meter-padding, 14px); }
  .when { flex-basis: 100%; }
}
@container (min-width: 640px) {
  .plot { height: var(--usage-meter-chart-height, 176px); }
}
@media (forced-colors: active) {
  .series { stroke: CanvasText; stroke-width: 1; }
  .solid { fill: CanvasText; }
  .lines { stroke: CanvasText; stroke-width: 1; fill: none; }
  .grid, .base { stroke: GrayText; }
  .band { fill: Highlight; fill-opacity: 0.35; }
  .pace-line { stroke: CanvasText; }
  .pace-edge { stroke: Canvas; }
  .ghost { fill: GrayText; }
  .plot text { fill: CanvasText; }
  .forecast .dot { forced-color-adjust: none; background: CanvasText; }
}
`;
