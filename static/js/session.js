/** Where the server asks for a token, a session has an end: the page that is loaded again is the form to log in. */

const UNAUTHORIZED = 401;

/** @param {Response} answer @returns {Response} the same */
export function heed(answer) {
  if (answer.status === UNAUTHORIZED) location.reload();
  return answer;
}
