// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// The texts of <usage-meter>, <usage-chart> and <usage-upgrade>, by language.
//
//   import { messages } from 'https://gateway.example.com/usage/messages.js';
//   document.querySelector('usage-meter').messages = { ...messages.de, upgrade: 'Mehr davon' };
//
// An element takes the language of the lang attribute nearest to it, or else English. Its
// property messages replaces texts: some of them, or all for another language. A text is a
// string, or a function that returns one. A number comes to it as an object that reads as
// the user's language writes it, `${n}` is "1,234", and n.value is the number, for
// Intl.PluralRules.


// src/messages/wording.js
function plurals(language) {
  const rules = new Intl.PluralRules(language);
  return (n, forms) => (n && forms[rules.select(n.value)]) ?? forms.other;
}
var words = (...words2) => words2.filter((word) => word && String(word)).join(" ");
var capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

// src/messages/ar.js
var plural = plurals("ar");
var windows = { minute: "هذه الدقيقة", hour: "هذه الساعة", day: "اليوم", week: "هذا الأسبوع", month: "هذا الشهر", year: "هذا العام" };
var forThis = { minute: "لهذه الدقيقة", hour: "لهذه الساعة", day: "لهذا اليوم", week: "لهذا الأسبوع", month: "لهذا الشهر", year: "لهذا العام" };
var before = { minute: "من الدقيقة الماضية", hour: "من الساعة الماضية", day: "من الأمس", week: "من الأسبوع الماضي", month: "من الشهر الماضي", year: "من العام الماضي" };
var request = { one: "طلب واحد", two: "طلبين", few: "طلبات", many: "طلبًا", other: "طلب" };
var unitForms = { one: "وحدة واحدة", two: "وحدتين", few: "وحدات", many: "وحدة", other: "وحدة" };
var withoutNumeral = /* @__PURE__ */ new Set([request.one, request.two, unitForms.one, unitForms.two]);
var isolated = (name) => name && `⁨${name}⁩`;
var quantity = (n, unit) => withoutNumeral.has(unit) ? unit : words(n, unit);
var ar = {
  separator: "، ",
  compactLabel: "الاستخدام",
  compactUnits: (unit) => unit,
  label: (per) => words("الاستخدام", windows[per]),
  requests: (n) => plural(n, request),
  units: (n) => plural(n, unitForms),
  unit: (name, n) => isolated(name),
  used: (used, limit, unit) => `${used} من ${quantity(limit, unit)}`,
  usedOnly: (used, unit) => `${quantity(used, unit)} حتى الآن`,
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `المتبقي ${n}`,
  carried: (n, unit, per) => words("يشمل", quantity(n, unit), before[per]),
  running: (n) => `${n} قيد التنفيذ`,
  held: (n, unit) => `محجوز: ${quantity(n, unit)}`,
  price: (endpoint, min, max, unit) => `تكلفة ${isolated(endpoint)}: ${min.value === max.value ? quantity(max, unit) : `من ${min} إلى ${quantity(max, unit)}`}`,
  unlimited: "غير محدود",
  warning: "أوشك على النفاد",
  blocked: "تم بلوغ الحد",
  softReached: "تم بلوغ الحد، لكنه غير مُلزِم",
  notEnough: "الرصيد المتبقي لا يكفي",
  notIncluded: "غير مشمول في خطتك",
  limitOf: (name, status) => `${isolated(name)}: ${status}`,
  andMore: (text, n) => `${text}، و${n} غير ذلك`,
  resets: "يتجدد:",
  neverRenews: "لا يتجدد",
  stale: "غير محدَّث",
  staleSince: (time) => `غير محدَّث. آخر تحديث: ${time}`,
  unavailable: "بيانات الاستخدام غير متاحة حاليًا",
  unauthorized: "سجّل الدخول للاطّلاع على استخدامك",
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: "حسب نقطة النهاية",
  of: (used, limit, unit) => `${used} من ${quantity(limit, unit)}`,
  amount: (n, unit) => quantity(n, unit),
  soft: (name) => `${isolated(name)} (غير مُلزِم)`,
  pool: (per) => words("مؤسستك", windows[per]),
  shared: (name) => `${isolated(name)}، المؤسسة بأكملها`,
  perWindow: (endpoint, per) => `${isolated(endpoint) ?? "كل نقاط النهاية"}، ${windows[per] ?? "إجمالًا"}`,
  promptTitle: "تم بلوغ الحد",
  refusedTitle: "رُفض طلبك الأخير",
  limitReached: (limit, endpoint, per, unit, shared) => `${words(shared ? "استنفدت مؤسستك" : "لقد استنفدت", "الحد البالغ", quantity(limit, unit), endpoint && `إلى ${isolated(endpoint)}`, forThis[per])}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `قد يكلّف الطلب ${quantity(cost, unit)}، ولم يتبقَّ ${words(shared && "لمؤسستك", "سوى", left, "من", limit, endpoint && `إلى ${isolated(endpoint)}`, forThis[per])}.`,
  limitEmpty: (endpoint) => endpoint ? `خطتك لا تشمل ${isolated(endpoint)}.` : "خطتك لا تشمل أي طلبات.",
  limitHeld: "قد تستهلك الطلبات التي لا تزال قيد التنفيذ ما تبقّى. حاول مجددًا بعد قليل.",
  renews: (when) => `يتجدد: ${when}.`,
  doesNotRenew: "هذا الحد لا يتجدد.",
  dismiss: "إخفاء",
  upgrade: "ترقية الخطة"
};

// src/messages/de.js
var plural2 = plurals("de");
var windows2 = { minute: "in dieser Minute", hour: "in dieser Stunde", day: "heute", week: "diese Woche", month: "diesen Monat", year: "dieses Jahr" };
var before2 = { minute: "aus der letzten Minute", hour: "aus der letzten Stunde", day: "von gestern", week: "aus der letzten Woche", month: "aus dem letzten Monat", year: "aus dem letzten Jahr" };
var de = {
  separator: ", ",
  compactLabel: "Nutzung",
  compactUnits: (unit) => capital(unit),
  label: (per) => words("Nutzung", windows2[per]),
  requests: (n) => plural2(n, { one: "Anfrage", other: "Anfragen" }),
  units: (n) => plural2(n, { one: "Einheit", other: "Einheiten" }),
  unit: (name, n) => name,
  used: (used, limit, unit) => words(`${used} von ${limit}`, unit, "verbraucht"),
  usedOnly: (used, unit) => words(used, unit, "verbraucht"),
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `noch ${n} übrig`,
  carried: (n, unit, per) => words("Enthält", n, unit, before2[per]),
  running: (n) => plural2(n, { one: `${n} läuft`, other: `${n} laufen` }),
  held: (n, unit) => words(n, unit, "reserviert"),
  price: (endpoint, min, max, unit) => words(endpoint, "kostet", min.value === max.value ? max : `${min} bis ${max}`, unit),
  unlimited: "Unbegrenzt",
  warning: "Fast aufgebraucht",
  blocked: "Limit erreicht",
  softReached: "Limit erreicht, wird aber nicht durchgesetzt",
  notEnough: "Rest reicht nicht",
  notIncluded: "Nicht in Ihrem Tarif enthalten",
  limitOf: (name, status) => `${name}: ${status}`,
  andMore: (text, n) => `${text}, und ${n} weitere`,
  resets: "Neu ab:",
  neverRenews: "Erneuert sich nicht",
  stale: "Nicht aktuell",
  staleSince: (time) => `Nicht aktuell. Letzter Stand: ${time}`,
  unavailable: "Die Nutzung lässt sich gerade nicht abrufen",
  unauthorized: "Melden Sie sich an, um Ihre Nutzung zu sehen",
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: "Nach Endpunkt",
  of: (used, limit, unit) => words(`${used} von ${limit}`, unit),
  amount: (n, unit) => words(n, unit),
  soft: (name) => `${name} (nicht durchgesetzt)`,
  pool: (per) => words("Ihre Organisation", windows2[per]),
  shared: (name) => `${name}, ganze Organisation`,
  perWindow: (endpoint, per) => `${endpoint ?? "Alle Endpunkte"}, ${windows2[per] ?? "insgesamt"}`,
  promptTitle: "Limit erreicht",
  refusedTitle: "Ihre letzte Anfrage wurde abgelehnt",
  limitReached: (limit, endpoint, per, unit, shared) => words(
    shared ? "Ihre Organisation hat" : "Sie haben",
    windows2[per],
    plural2(limit, { one: `${limit} von ${limit}`, other: `alle ${limit}` }),
    unit,
    endpoint && `für ${endpoint}`,
    "verbraucht."
  ),
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `${words(
    "Die Anfrage kann",
    cost,
    unit,
    "kosten, aber",
    windows2[per],
    plural2(left, { one: "ist", other: "sind" }),
    shared && "für Ihre Organisation",
    `nur noch ${left} von ${limit}`,
    endpoint && `für ${endpoint}`,
    "übrig"
  )}.`,
  limitEmpty: (endpoint) => endpoint ? `Ihr Tarif enthält ${endpoint} nicht.` : "Ihr Tarif enthält keine Anfragen.",
  limitHeld: "Anfragen, die noch laufen, können den Rest verbrauchen. Versuchen Sie es gleich noch einmal.",
  renews: (when) => `Neu ab: ${when}.`,
  doesNotRenew: "Dieses Limit erneuert sich nicht.",
  dismiss: "Ausblenden",
  upgrade: "Upgrade"
};

// src/messages/en.js
var plural3 = plurals("en");
var windows3 = { minute: "this minute", hour: "this hour", day: "today", week: "this week", month: "this month", year: "this year" };
var forThis2 = (per) => per === "ever" ? "" : ` for this ${per}`;
var en = {
  separator: ", ",
  compactLabel: "Usage",
  compactUnits: (unit) => capital(unit),
  label: (per) => words("Usage", windows3[per]),
  requests: (n) => plural3(n, { one: "request", other: "requests" }),
  units: (n) => plural3(n, { one: "unit", other: "units" }),
  unit: (name, n) => plural3(n, { one: name.replace(/([^s])s$/, "$1"), other: name }),
  used: (used, limit, unit) => words(`${used} of ${limit}`, unit, "used"),
  usedOnly: (used, unit) => words(used, unit, "used"),
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `${n} left`,
  carried: (n, unit, per) => words("Includes", n, unit, "from", per === "day" ? "yesterday" : `last ${per}`),
  running: (n) => `${n} running`,
  held: (n, unit) => words(n, unit, "held"),
  price: (endpoint, min, max, unit) => words(endpoint, "costs", min.value === max.value ? max : `${min} to ${max}`, unit),
  unlimited: "Unlimited",
  warning: "Almost used up",
  blocked: "Limit reached",
  softReached: "Limit reached, not enforced",
  notEnough: "Not enough left",
  notIncluded: "Not included in your plan",
  limitOf: (name, status) => `${name}: ${status[0].toLowerCase()}${status.slice(1)}`,
  andMore: (text, n) => `${text}, and ${n} more`,
  resets: "Resets",
  neverRenews: "Does not renew",
  stale: "Not up to date",
  staleSince: (time) => `Not up to date. Last updated ${time}`,
  unavailable: "Usage is not available right now",
  unauthorized: "Sign in to see your usage",
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: "By endpoint",
  of: (used, limit, unit) => words(`${used} of ${limit}`, unit),
  amount: (n, unit) => words(n, unit),
  soft: (name) => `${name} (not enforced)`,
  pool: (per) => words("Your organisation", windows3[per]),
  shared: (name) => `${name}, whole organisation`,
  perWindow: (endpoint, per) => `${endpoint ?? "All endpoints"}, ${per === "ever" ? "in total" : `this ${per}`}`,
  promptTitle: "Limit reached",
  refusedTitle: "Your last request was refused",
  limitReached: (limit, endpoint, per, unit, shared) => `${shared ? "Your organisation has" : "You have"} used ${words(plural3(limit, { one: "the", other: "all" }), limit, endpoint, unit)}${forThis2(per)}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `The request may cost ${words(cost, unit)}, and only ${left} of ${words(limit, endpoint, endpoint && unit)} ${plural3(left, { one: "is", other: "are" })} left${shared ? " to your organisation" : ""}${forThis2(per)}.`,
  limitEmpty: (endpoint) => `Your plan does not include ${endpoint ?? "any requests"}.`,
  limitHeld: "Requests that are still running may use up the rest. Try again in a moment.",
  renews: (when) => `Resets ${when}.`,
  doesNotRenew: "This limit does not renew.",
  dismiss: "Dismiss",
  upgrade: "Upgrade"
};

// src/messages/es.js
var plural4 = plurals("es");
var windows4 = { minute: "este minuto", hour: "esta hora", day: "hoy", week: "esta semana", month: "este mes", year: "este año" };
var before3 = { minute: "del minuto anterior", hour: "de la hora anterior", day: "de ayer", week: "de la semana pasada", month: "del mes pasado", year: "del año pasado" };
var es = {
  separator: ", ",
  compactLabel: "Uso",
  compactUnits: (unit) => capital(unit),
  label: (per) => words("Uso", per === "day" ? "de hoy" : windows4[per] && `de ${windows4[per]}`),
  requests: (n) => plural4(n, { one: "solicitud", other: "solicitudes" }),
  units: (n) => plural4(n, { one: "unidad", other: "unidades" }),
  unit: (name, n) => name,
  used: (used, limit, unit) => words(`${used} de ${limit}`, unit),
  usedOnly: (used, unit) => words(used, unit, "hasta ahora"),
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => plural4(n, { one: `queda ${n}`, other: `quedan ${n}` }),
  carried: (n, unit, per) => words("Incluye", n, unit, before3[per]),
  running: (n) => `${n} en curso`,
  held: (n, unit) => words(n, unit, "en reserva"),
  price: (endpoint, min, max, unit) => words(endpoint, "cuesta", min.value === max.value ? max : `de ${min} a ${max}`, unit),
  unlimited: "Sin límite",
  warning: "Casi agotado",
  blocked: "Límite alcanzado",
  softReached: "Límite alcanzado, pero no se aplica",
  notEnough: "Saldo insuficiente",
  notIncluded: "No incluido en tu plan",
  limitOf: (name, status) => `${name}: ${status[0].toLowerCase()}${status.slice(1)}`,
  andMore: (text, n) => `${text}, y ${n} más`,
  resets: "Se renueva:",
  neverRenews: "No se renueva",
  stale: "No actualizado",
  staleSince: (time) => `No actualizado. Última actualización: ${time}`,
  unavailable: "El uso no está disponible en este momento",
  unauthorized: "Inicia sesión para ver tu uso",
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: "Por endpoint",
  of: (used, limit, unit) => words(`${used} de ${limit}`, unit),
  amount: (n, unit) => words(n, unit),
  soft: (name) => `${name} (no se aplica)`,
  pool: (per) => words("Tu organización", windows4[per]),
  shared: (name) => `${name}, toda la organización`,
  perWindow: (endpoint, per) => `${endpoint ?? "Todos los endpoints"}, ${windows4[per] ?? "en total"}`,
  promptTitle: "Límite alcanzado",
  refusedTitle: "Tu última solicitud fue rechazada",
  limitReached: (limit, endpoint, per, unit, shared) => `${words(shared ? "Tu organización ha usado" : "Has usado", limit, "de", limit, unit, endpoint && `para ${endpoint}`, windows4[per])}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `La solicitud puede costar ${words(cost, unit)}, y ${shared ? "a tu organización " : ""}solo ${words(plural4(left, { one: "queda", other: "quedan" }), left, "de", limit, endpoint && `para ${endpoint}`, windows4[per])}.`,
  limitEmpty: (endpoint) => endpoint ? `Tu plan no incluye ${endpoint}.` : "Tu plan no incluye solicitudes.",
  limitHeld: "Las solicitudes que siguen en curso pueden agotar el resto. Vuelve a intentarlo en un momento.",
  renews: (when) => `Se renueva: ${when}.`,
  doesNotRenew: "Este límite no se renueva.",
  dismiss: "Descartar",
  upgrade: "Mejorar plan"
};

// src/messages/fr.js
var plural5 = plurals("fr");
var windows5 = { minute: "cette minute", hour: "cette heure", day: "aujourd’hui", week: "cette semaine", month: "ce mois-ci", year: "cette année" };
var before4 = { minute: "de la minute précédente", hour: "de l’heure précédente", day: "d’hier", week: "de la semaine dernière", month: "du mois dernier", year: "de l’année dernière" };
var fr = {
  separator: ", ",
  compactLabel: "Utilisation",
  compactUnits: (unit) => capital(unit),
  label: (per) => words("Utilisation", windows5[per]),
  requests: (n) => plural5(n, { one: "requête", other: "requêtes" }),
  units: (n) => plural5(n, { one: "unité", other: "unités" }),
  unit: (name, n) => name,
  used: (used, limit, unit) => words(`${used} sur ${limit}`, unit),
  usedOnly: (used, unit) => words(used, unit, "jusqu’ici"),
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `reste ${n}`,
  carried: (n, unit, per) => words("Dont", n, unit, before4[per]),
  running: (n) => `${n} en cours`,
  held: (n, unit) => words(n, unit, "en réserve"),
  price: (endpoint, min, max, unit) => words(endpoint, "coûte", min.value === max.value ? max : `de ${min} à ${max}`, unit),
  unlimited: "Illimité",
  warning: "Presque épuisé",
  blocked: "Limite atteinte",
  softReached: "Limite atteinte, non appliquée",
  notEnough: "Solde insuffisant",
  notIncluded: "Non inclus dans votre offre",
  limitOf: (name, status) => `${name} : ${status[0].toLowerCase()}${status.slice(1)}`,
  andMore: (text, n) => plural5(n, { one: `${text}, et ${n} autre`, other: `${text}, et ${n} autres` }),
  resets: "Remise à zéro :",
  neverRenews: "Ne se renouvelle pas",
  stale: "Pas à jour",
  staleSince: (time) => `Pas à jour. Dernière mise à jour : ${time}`,
  unavailable: "L’utilisation n’est pas disponible pour le moment",
  unauthorized: "Connectez-vous pour voir votre utilisation",
  statusChanged: (status, count) => `${status} : ${count}`,
  breakdown: "Par point d’accès",
  of: (used, limit, unit) => words(`${used} sur ${limit}`, unit),
  amount: (n, unit) => words(n, unit),
  soft: (name) => `${name} (non appliquée)`,
  pool: (per) => words("Votre organisation", windows5[per]),
  shared: (name) => `${name}, toute l’organisation`,
  perWindow: (endpoint, per) => `${endpoint ?? "Tous les points d’accès"}, ${windows5[per] ?? "au total"}`,
  promptTitle: "Limite atteinte",
  refusedTitle: "Votre dernière requête a été refusée",
  limitReached: (limit, endpoint, per, unit, shared) => `${words(shared ? "Votre organisation a utilisé" : "Vous avez utilisé", limit, unit, "sur", limit, endpoint && `pour ${endpoint}`, windows5[per])}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `La requête peut coûter ${words(cost, unit)}, et il ne reste${shared ? " à votre organisation" : ""} que ${words(left, "sur", limit, endpoint && `pour ${endpoint}`, windows5[per])}.`,
  limitEmpty: (endpoint) => endpoint ? `Votre offre n’inclut pas ${endpoint}.` : "Votre offre n’inclut aucune requête.",
  limitHeld: "Des requêtes encore en cours peuvent utiliser le reste. Réessayez dans un instant.",
  renews: (when) => `Remise à zéro : ${when}.`,
  doesNotRenew: "Cette limite ne se renouvelle pas.",
  dismiss: "Masquer",
  upgrade: "Changer d’offre"
};

// src/messages.js
var messages = { en, de, fr, es, ar };
export {
  messages
};
