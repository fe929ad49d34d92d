// Numbers and times as people read them: grouped digits, local time with UTC on hover.
import { h } from './dom.js';

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const dayTime = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' });
const clock = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hourCycle: 'h23' });
const clockShort = new Intl.DateTimeFormat('en', { timeStyle: 'short', hourCycle: 'h23' });

export const number = (n) => (n === null || n === undefined ? '–' : whole.format(n));
export const decimal = (n) => (n === null || n === undefined ? '–' : n >= 100 ? whole.format(Math.round(n)) : short.format(n));
export const percent = (n) => (n === null || n === undefined ? '–' : `${whole.format(n)}%`);
export const share = (part) => `${short.format(Math.round(part * 1000) / 10)}%`;
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

export function millis(n) {
  if (n === null || n === undefined) return '–';
  return n < 1000 ? `${decimal(n < 10 ? Math.round(n * 10) / 10 : Math.round(n))} ms` : `${decimal(Math.round(n / 10) / 100)} s`;
}

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  for (const unit of ['bytes', 'KiB', 'MiB', 'GiB']) {
    if (n < 1024 || unit === 'GiB') return `${short.format(n)} ${unit}`;
    n = Math.round(n / 1024 * 10) / 10;
  }
  return '';
}

/** What an amount counts: "requests", or what the configuration calls a unit. */
export const amountName = (unit, unitName) => (unit === 'units' ? unitName || 'units' : 'requests');

const utc = (date) => `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;

/** An instant in local time. kind: "time" leaves out the date, "clock" the seconds as well. */
export function time(at, kind) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return '–';
  const format = kind === 'time' ? clock : kind === 'clock' ? clockShort : dayTime;
  return h('time', { dateTime: date.toISOString(), title: utc(date), className: 'nowrap' }, format.format(date));
}

export const clockText = (seconds) => clockShort.format(new Date(seconds * 1000));
export const timeText = (date) => clock.format(date);
export const dayText = (date) => dayTime.format(new Date(date));

const dayOnly = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short', timeZone: 'UTC' });
/** A date such as 2026-11-29, as "Nov 29". */
export const dateText = (date) => dayOnly.format(new Date(`${date}T00:00:00Z`));
