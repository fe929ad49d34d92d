// Types of messages.js: the texts of the elements. Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

import type { Per } from './client.js';

/** A number. In a text, such as "${n} left", it reads as the user's language writes it. */
export interface Count {
  /** For Intl.PluralRules. */
  readonly value: number;
  toString(): string;
}

/** The texts of one language. docs/texts.md says what they get. */
export interface Messages {
  separator: string;
  compactLabel: string;
  compactUnits: (unit: string) => string;
  label: (per: Per | undefined) => string;
  requests: (n: Count | undefined) => string;
  units: (n: Count | undefined) => string;
  unit: (name: string, n: Count | undefined) => string;
  used: (used: Count, limit: Count, unit: string) => string;
  usedOnly: (used: Count, unit: string) => string;
  compact: (used: Count, limit: Count, unit: string) => string;
  remaining: (n: Count) => string;
  carried: (n: Count, unit: string, per: Per) => string;
  running: (n: Count) => string;
  held: (n: Count, unit: string) => string;
  price: (endpoint: string, min: Count, max: Count, unit: string) => string;
  unlimited: string;
  warning: string;
  blocked: string;
  softReached: string;
  notEnough: string;
  notIncluded: string;
  limitOf: (name: string, status: string) => string;
  andMore: (text: string, n: Count) => string;
  resets: string;
  neverRenews: string;
  stale: string;
  staleSince: (time: string) => string;
  unavailable: string;
  unauthorized: string;
  statusChanged: (status: string, count: string) => string;
  breakdown: string;
  of: (used: Count, limit: Count, unit: string) => string;
  amount: (n: Count, unit: string) => string;
  soft: (name: string) => string;
  pool: (per: Per) => string;
  shared: (name: string) => string;
  perWindow: (endpoint: string | undefined, per: Per) => string;
  chartLabel: string;
  chartRange: (days: Count) => string;
  chartToday: string;
  chartDate: string;
  chartTotal: string;
  chartOther: string;
  chartDay: (date: string, amount: string) => string;
  chartCaption: (unit: string, from: string, to: string) => string;
  chartSummary: (amount: string, from: string, to: string) => string;
  chartPace: string;
  chartPaceAbove: string;
  chartDailyLimit: string;
  chartPerDay: (n: string) => string;
  chartExhausts: (date: string) => string;
  chartExhaustsToday: (time: string) => string;
  chartLasts: (date: string) => string;
  chartReached: string;
  chartEmpty: string;
  chartOff: string;
  promptTitle: string;
  refusedTitle: string;
  limitReached: (limit: Count, endpoint: string | undefined, per: Per, unit: string, shared: true | undefined) => string;
  limitShort: (cost: Count, left: Count, limit: Count, endpoint: string | undefined, per: Per, unit: string, shared: true | undefined) => string;
  limitEmpty: (endpoint: string | null | undefined) => string;
  limitHeld: string;
  renews: (when: string) => string;
  doesNotRenew: string;
  dismiss: string;
  upgrade: string;
  upgradeTitle: string;
  upgradeText: string;
  upgradeHeldTitle: string;
  upgradeAdmittedTitle: string;
  upgradeAdmittedText: string;
  upgradeNotNow: string;
  upgradeClose: string;
}

export const messages: Record<'en' | 'de' | 'fr' | 'es' | 'ar', Messages>;
