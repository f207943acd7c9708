/** URLs of the server. */

/** The URL of the server, without a slash at the end. */
export const SERVER = new URL(".", location.href).href.replace(/\/$/, "");

/** Return the URL of a path on the server, without a slash at the beginning. */
export function urlOf(path: string): string {
  return `${SERVER}/${path}`;
}
