/**
 * Returns the values of the lines of a scale from 0: two to four, which are whole numbers. The
 * last one is the end of the scale.
 * @param {number} most that is to be shown, at least 1
 */
export function ticks(most) {
  let best = [1, 2];
  let end = most <= 2 ? 2 : Infinity;
  for (let power = Math.max(1, 10 ** (Math.floor(Math.log10(most)) - 1)); power <= most; power *= 10) {
    for (const step of [1, 2, 2.5, 5].map((n) => n * power).filter(Number.isInteger)) {
      const lines = Math.max(2, Math.ceil(most / step));
      if (lines > 4 || lines * step >= end) continue;
      end = lines * step;
      best = Array.from({ length: lines }, (_, i) => (i + 1) * step);
    }
  }
  return best;
}

/**
 * Returns about every how many days stands a date, so that the dates have room.
 * @param {number} days @param {number} width of the plot @param {number} room that a date needs
 * @returns {number[]} days that have a date: always the first and the last
 */
export function datedDays(days, width, room) {
  if (days === 1) return [0];
  const gaps = Math.max(1, Math.min(days - 1, Math.floor(width / room)));
  return Array.from({ length: gaps + 1 }, (_, i) => Math.round(i * (days - 1) / gaps));
}
