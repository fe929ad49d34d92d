/**
 * Runs code of the application. Its exceptions are its own: they go to the console and
 * do not disturb the client.
 * @param {() => void} fn
 */
export function runGuarded(fn) {
  try {
    fn();
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else console.error(error);
  }
}
