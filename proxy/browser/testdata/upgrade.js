import '/usage/upgrade.js';
import { credits, end, fakeClient, refused, upgrade_url, usage } from './states.js';

const month = { ...refused, endpoint: 'analyze', violated: ['month'] };
const notIncluded = { name: 'report-month', endpoint: 'report', per: 'month', used: 0, limit: 0, remaining: 0, resets_at: end };
const ever = { name: 'ever', per: 'ever', unit: 'units', used: 85, limit: 85, remaining: 0, resets_at: null };

/** The states of the dialog: functions that bring it there. */
const states = {
  reached: (client) => client.refuse(month, usage(100, { upgrade_url })),
  endpoint: (client) => client.refuse(refused, usage(42, { images: 20 })),
  short: (client) => client.refuse({ ...refused, violated: ['month-units'] }, credits(4998)),
  held: (client) => client.refuse(month, usage(99, { pending: 1, allowed: false })),
  organisation: (client) => client.refuse({ ...month, violated: ['shared'] }, usage(42, {
    allowed: false, limits: [...usage(42).limits, { name: 'shared', per: 'month', shared: true, used: 6500, limit: 6500, remaining: 0, resets_at: end }],
  })),
  ever: (client) => client.refuse({ ...month, violated: ['ever'] }, usage(85, {
    limit: 85, unit: 'units', unit_name: 'credits', limits: [ever], period: { per: 'ever', start: null, end: null },
  })),
  'not in plan': (client) => client.refuse({ ...refused, endpoint: 'report', violated: ['report-month'], reason: 'not_in_plan' },
    usage(42, { limits: [...usage(42).limits, notIncluded] })),
  'without a URL': (client) => client.refuse({ ...month, upgrade_url: null }, usage(100)),
  prompted: (client, dialog) => {
    client.show(usage(42, { upgrade_url }));
    dialog.show();
  },
  admitted: (client, dialog) => {
    client.refuse(month, usage(100, { upgrade_url }));
    dialog.shadowRoot.querySelector('dialog').dispatchEvent(new KeyboardEvent('keydown', { key: 'Tab' }));
    client.show(usage(10, { upgrade_url }));
  },
};

const dialog = document.querySelector('usage-upgrade');
dialog.client = fakeClient(usage(42));
Object.assign(window, {
  states,
  dialog,
  part: (name) => dialog.shadowRoot.querySelector(`[part~="${name}"]`),
  text: (name) => (part(name).checkVisibility() ? part(name).innerText.trim() : ''),
  enter: (name) => {
    dialog.close();
    window.client = dialog.client = fakeClient(usage(42));
    // The element follows the client a moment later.
    return Promise.resolve().then(() => states[name](client, dialog));
  },
  usage, fakeClient, refused, month, upgrade_url,
  ready: true,
});
