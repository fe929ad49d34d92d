import { plurals, words } from './wording.js';

const plural = plurals('ar');
const windows = { minute: 'هذه الدقيقة', hour: 'هذه الساعة', day: 'اليوم', week: 'هذا الأسبوع', month: 'هذا الشهر', year: 'هذا العام' };
const forThis = { minute: 'لهذه الدقيقة', hour: 'لهذه الساعة', day: 'لهذا اليوم', week: 'لهذا الأسبوع', month: 'لهذا الشهر', year: 'لهذا العام' };
const before = { minute: 'من الدقيقة الماضية', hour: 'من الساعة الماضية', day: 'من الأمس', week: 'من الأسبوع الماضي', month: 'من الشهر الماضي', year: 'من العام الماضي' };

const request = { one: 'طلب واحد', two: 'طلبين', few: 'طلبات', many: 'طلبًا', other: 'طلب' };
const unitForms = { one: 'وحدة واحدة', two: 'وحدتين', few: 'وحدات', many: 'وحدة', other: 'وحدة' };
const withoutNumeral = new Set([request.one, request.two, unitForms.one, unitForms.two]);

/** Keeps a name in another script from changing the order of the words around it. */
const isolated = (name) => name && `\u2068${name}\u2069`;
/** A number and what it counts. The forms for one and two say the number themselves. */
const quantity = (n, unit) => (withoutNumeral.has(unit) ? unit : words(n, unit));

/** Arabic. The parameters are those of en.js. */
export const ar = {
  separator: '، ',
  compactLabel: 'الاستخدام',
  compactUnits: (unit) => unit,
  label: (per) => words('الاستخدام', windows[per]),
  requests: (n) => plural(n, request),
  units: (n) => plural(n, unitForms),
  unit: (name, n) => isolated(name),
  used: (used, limit, unit) => `${used} من ${quantity(limit, unit)}`,
  usedOnly: (used, unit) => `${quantity(used, unit)} حتى الآن`,
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `المتبقي ${n}`,
  carried: (n, unit, per) => words('يشمل', quantity(n, unit), before[per]),
  running: (n) => `${n} قيد التنفيذ`,
  held: (n, unit) => `محجوز: ${quantity(n, unit)}`,
  price: (endpoint, min, max, unit) => `تكلفة ${isolated(endpoint)}: ${min.value === max.value ? quantity(max, unit) : `من ${min} إلى ${quantity(max, unit)}`}`,
  unlimited: 'غير محدود',
  warning: 'أوشك على النفاد',
  blocked: 'تم بلوغ الحد',
  softReached: 'تم بلوغ الحد، لكنه غير مُلزِم',
  notEnough: 'الرصيد المتبقي لا يكفي',
  notIncluded: 'غير مشمول في خطتك',
  limitOf: (name, status) => `${isolated(name)}: ${status}`,
  andMore: (text, n) => `${text}، و${n} غير ذلك`,
  resets: 'يتجدد:',
  neverRenews: 'لا يتجدد',
  stale: 'غير محدَّث',
  staleSince: (time) => `غير محدَّث. آخر تحديث: ${time}`,
  unavailable: 'بيانات الاستخدام غير متاحة حاليًا',
  unauthorized: 'سجّل الدخول للاطّلاع على استخدامك',
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: 'حسب نقطة النهاية',
  of: (used, limit, unit) => `${used} من ${quantity(limit, unit)}`,
  amount: (n, unit) => quantity(n, unit),
  soft: (name) => `${isolated(name)} (غير مُلزِم)`,
  pool: (per) => words('مؤسستك', windows[per]),
  shared: (name) => `${isolated(name)}، المؤسسة بأكملها`,
  perWindow: (endpoint, per) => `${isolated(endpoint) ?? 'كل نقاط النهاية'}، ${windows[per] ?? 'إجمالًا'}`,
  chartLabel: 'الاستخدام اليومي',
  chartRange: (days) => plural(days, { one: 'اليوم', two: 'آخر يومين', few: `آخر ${days} أيام`, many: `آخر ${days} يومًا`, other: `آخر ${days} يوم` }),
  chartToday: 'اليوم',
  chartDate: 'اليوم',
  chartTotal: 'الإجمالي',
  chartOther: 'أخرى',
  chartDay: (date, amount) => `${date}: ${amount}`,
  chartCaption: (unit, from, to) => `الاستخدام اليومي (${unit}) من ${from} إلى ${to}`,
  chartSummary: (amount, from, to) => `${amount} من ${from} إلى ${to}`,
  chartPace: 'وتيرة منتظمة',
  chartPaceAbove: 'وتيرة منتظمة، أعلى من الرسم',
  chartDailyLimit: 'الحد اليومي',
  chartPerDay: (n) => `${n} في اليوم`,
  chartExhausts: (date) => `بهذه الوتيرة، يُبلَغ الحد في ${date}.`,
  chartExhaustsToday: (time) => `بهذه الوتيرة، يُبلَغ الحد اليوم في ${time}.`,
  chartLasts: (date) => `بهذه الوتيرة، يكفي الحد إلى أن يتجدد في ${date}.`,
  chartReached: 'تم بلوغ الحد.',
  chartEmpty: 'لا استخدام بعد',
  chartOff: 'لا يُسجَّل الاستخدام اليومي',
  promptTitle: 'تم بلوغ الحد',
  refusedTitle: 'رُفض طلبك الأخير',
  limitReached: (limit, endpoint, per, unit, shared) => `${words(shared ? 'استنفدت مؤسستك' : 'لقد استنفدت', 'الحد البالغ', quantity(limit, unit), endpoint && `إلى ${isolated(endpoint)}`, forThis[per])}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `قد يكلّف الطلب ${quantity(cost, unit)}، ولم يتبقَّ ${words(shared && 'لمؤسستك', 'سوى', left, 'من', limit, endpoint && `إلى ${isolated(endpoint)}`, forThis[per])}.`,
  limitEmpty: (endpoint) => (endpoint ? `خطتك لا تشمل ${isolated(endpoint)}.` : 'خطتك لا تشمل أي طلبات.'),
  limitHeld: 'قد تستهلك الطلبات التي لا تزال قيد التنفيذ ما تبقّى. حاول مجددًا بعد قليل.',
  renews: (when) => `يتجدد: ${when}.`,
  doesNotRenew: 'هذا الحد لا يتجدد.',
  dismiss: 'إخفاء',
  upgrade: 'ترقية الخطة',
  upgradeTitle: 'ترقية الخطة',
  upgradeText: 'مع خطة أكبر يمكنك إرسال المزيد من الطلبات.',
  upgradeHeldTitle: 'ما تبقّى قيد الاستخدام',
  upgradeAdmittedTitle: 'يمكنك المتابعة',
  upgradeAdmittedText: 'أصبحت طلباتك مقبولة من جديد.',
  upgradeNotNow: 'ليس الآن',
  upgradeClose: 'إغلاق',
};
