/** Which symbols are shown, and in which order. Pure. */

/** @typedef {import("./choices.js").Choices} Choices */
/** @typedef {import("./snapshot.js").Snapshot} Snapshot */

const RANK = { known: 0, doubtful: 1, unknown: 2 };

/** @param {string} find @returns {string[]} the words of a search, without what people write between base and quote */
export function wordsOf(find) {
  return find.toUpperCase().split(/[\s,;]+/).map((word) => word.replace(/[/\-_]/g, "")).filter(Boolean);
}

/** @param {Snapshot} snapshot @param {Choices} choices @returns {number[]} places */
export function chosen(snapshot, choices) {
  const words = wordsOf(choices.find);
  const { symbol, quote } = snapshot.answer;
  const places = [];
  for (let place = 0; place < snapshot.count; place++) {
    if (choices.quote && quote[place] !== choices.quote) continue;
    if (words.length && !words.some((word) => symbol[place].includes(word))) continue;
    places.push(place);
  }
  return places;
}

/**
 * What a column is sorted by: a number of each symbol, NaN where it is unknown.
 * @param {Snapshot} snapshot
 * @param {Choices} choices
 * @param {number} now
 * @param {(?number)[]} volumes
 * @returns {(place: number) => number}
 */
function keyOf(snapshot, choices, now, volumes) {
  const { price, change_24h_percent: change, rsi } = snapshot.answer;
  const number = (/** @type {?number | undefined} */ value) => value ?? NaN;
  /** @type {Object<string, (place: number) => number>} */
  const keys = {
    symbol: (place) => place, // the server gives them in order of name
    price: (place) => number(price[place]),
    change: (place) => number(change[place]),
    range: (place) => number(snapshot.position(place)),
    rsi: (place) => number(rsi[place]),
    volume: (place) => number(volumes[place]),
    // Fresh ones are equals: by tenths of a second they would change places all the time.
    age: (place) => (snapshot.stale(place, now) ? number(snapshot.age(place, now)) : 0),
  };
  return keys[choices.sort];
}

/**
 * Places in the order that the reader chose: what is unknown comes last, and an RSI that doesn't count before that, whatever the direction.
 * @param {Snapshot} snapshot
 * @param {Choices} choices
 * @param {number} now
 * @param {(?number)[]} volumes as they are compared
 * @returns {number[]}
 */
export function arranged(snapshot, choices, now, volumes) {
  const places = chosen(snapshot, choices);
  const key = keyOf(snapshot, choices, now, volumes);
  const keys = new Float64Array(snapshot.count);
  const ranks = new Uint8Array(snapshot.count);
  for (const place of places) {
    keys[place] = key(place);
    const doubtful = choices.sort === "rsi" && snapshot.rsiState(place, now) !== "ready";
    ranks[place] = Number.isNaN(keys[place]) ? RANK.unknown : doubtful ? RANK.doubtful : RANK.known;
    if (ranks[place] === RANK.unknown) keys[place] = 0;
  }
  const direction = choices.descending ? -1 : 1;
  return places.sort((a, b) => ranks[a] - ranks[b] || direction * (keys[a] - keys[b]) || a - b);
}

/**
 * The same symbols in the same order, by their places in a later answer; those that are gone are left out.
 * @param {number[]} places
 * @param {Snapshot} before
 * @param {Snapshot} after
 * @returns {number[]}
 */
export function carried(places, before, after) {
  const [old, names] = [before.answer.symbol, after.answer.symbol];
  if (old.length === names.length && old.every((name, place) => name === names[place])) return places;
  return places.map((place) => after.placeOf(old[place])).filter((place) => place !== undefined);
}
