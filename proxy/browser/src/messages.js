// The texts of <usage-meter>, <usage-chart> and <usage-upgrade>, by language.
//
//   import { messages } from 'https://gateway.example.com/usage/messages.js';
//   document.querySelector('usage-meter').messages = { ...messages.de, upgrade: 'Mehr davon' };
//
// An element takes the language of the lang attribute nearest to it, or else English. Its
// property messages replaces texts: some of them, or all for another language. Each text of
// yours may be a string, or a function that returns one. A number comes to it as an object
// that reads as the user's language writes it, `${n}` is "1,234", and n.value is the number,
// for Intl.PluralRules. undefined leaves a text as it is.

import { ar } from './messages/ar.js';
import { de } from './messages/de.js';
import { en } from './messages/en.js';
import { es } from './messages/es.js';
import { fr } from './messages/fr.js';

export const messages = { en, de, fr, es, ar };
