// Types of messages.js: the texts of the elements.

/** A text, or a function that makes one. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Message = string | ((...values: any[]) => string);

/** The texts of one language, by their names. */
export type Messages = Record<string, Message>;
