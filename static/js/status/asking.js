/** Asks the server again and again, while the page can be seen. */

import { heed } from "../session.js";

const EVERY_MS = 2000;
const WITHIN_MS = 5000;

/** @typedef {import("./answer.js").Answer} Answer */

/**
 * @param {(answer: Answer) => void} heard
 * @param {(reason: string) => void} failed the server gave no answer that can be used
 */
export function askAgainAndAgain(heard, failed) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let asking = false;
  const ask = async () => {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    try {
      heard(await answer());
    } catch (fault) {
      failed(fault instanceof Refused ? fault.message : "it gives no answer");
    }
    asking = false;
    timer = setTimeout(ask, EVERY_MS);
  };
  document.addEventListener("visibilitychange", ask);
  addEventListener("online", ask);
  ask();
}

class Refused extends Error {}

/** @returns {Promise<Answer>} */
async function answer() {
  const response = heed(await fetch("/api/v1/pipeline", { signal: AbortSignal.timeout(WITHIN_MS), headers: { accept: "application/json" } }));
  if (!response.ok) throw new Refused(`it answers with ${response.status}`);
  return response.json();
}
