/**
 * Records of one series in order of time, one for each time: the one that counts. Pure.
 *
 * @typedef {Object} Claim
 * @property {number} [revision]
 * @property {number} [since]
 * @property {number} [klines] of a candle
 */

/** @template {Claim} T */
export class Book {
  /** @param {(record: T) => number} timeOf @param {number} most how many are kept; the oldest leave first */
  constructor(timeOf, most) {
    this.timeOf = timeOf;
    this.most = most;
    /** @type {T[]} */
    this.records = [];
  }

  /** @returns {T | undefined} */
  get first() {
    return this.records[0];
  }

  /** @returns {T | undefined} */
  get last() {
    return this.records.at(-1);
  }

  /** @returns {boolean} */
  get full() {
    return this.records.length >= this.most;
  }

  /** @param {T[]} records in any order, repeats too */
  add(records) {
    if (this.#allBefore(records)) this.records = [...records, ...this.records];
    else for (const record of records) this.#put(record);
    if (this.records.length > this.most) this.records.splice(0, this.records.length - this.most);
  }

  /** @param {number} time what is older leaves */
  forgetBefore(time) {
    const gone = this.after(time - 1);
    if (gone > 0) this.records.splice(0, gone);
  }

  /** The newest record whose time is not after this. @param {number} time @returns {T | undefined} */
  at(time) {
    return this.records[this.after(time) - 1];
  }

  /** @param {number} from @param {number} to both inclusive @returns {T[]} */
  between(from, to) {
    return this.records.slice(this.after(from - 1), this.after(to));
  }

  /** @param {number} time @returns {number} index of the first record after it */
  after(time) {
    let [low, high] = [0, this.records.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.timeOf(this.records[middle]) <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {T} record */
  #put(record) {
    const i = this.after(this.timeOf(record));
    const held = this.records[i - 1];
    if (held === undefined || this.timeOf(held) !== this.timeOf(record)) this.records.splice(i, 0, record);
    else if (outranks(record, held)) this.records[i - 1] = record;
  }

  /** @param {T[]} records @returns {boolean} whether they are in order and all before what is held, as a page of history is */
  #allBefore(records) {
    const ends = [...records, ...this.records.slice(0, 1)];
    return ends.every((record, i) => i === 0 || this.timeOf(ends[i - 1]) < this.timeOf(record));
  }
}

/** @param {Claim} record @param {Claim} held @returns {boolean} the higher revision counts, then more klines, then the earlier run */
export function outranks(record, held) {
  const [revision, before] = [record.revision ?? 0, held.revision ?? 0];
  const [klines, fewer] = [record.klines ?? 0, held.klines ?? 0];
  if (revision !== before || klines !== fewer) return revision !== before ? revision > before : klines > fewer;
  return (record.since ?? 0) < (held.since ?? 0);
}
