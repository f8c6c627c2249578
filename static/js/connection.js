/** The websocket: opens, subscribes, notices a broken line, and comes back by itself with its cursor. */

const PROTOCOL = 2;
const SNAPSHOT_LIMIT = { windows: 1000, candles: 300 };
const SILENCE_MOST_MS = 6000; // the server's heartbeat comes every two seconds
const WAIT_FIRST_MS = 250;
const WAIT_MOST_MS = 8000;
const REFILL_WAIT_MS = 10000; // a line that is too slow for updates must not be filled with answers

/**
 * A cursor: topic → partition → next offset.
 * @typedef {Object<string, Object<string, number>>} Cursor
 *
 * @typedef {Object} Part
 * @property {string} kind
 * @property {string} symbol
 * @property {string} [interval]
 * @property {any[]} records
 * @property {number} [conflated]
 *
 * @typedef {Object} Events
 * @property {(state: "connecting" | "open" | "reconnecting") => void} state
 * @property {(message: {server_time: number, stale_after_ms: number}) => void} subscribed
 * @property {(part: Part) => void} snapshot replaces what is held of the series
 * @property {(part: Part) => void} update
 * @property {(serverTime: number) => void} time
 * @property {(text: string) => void} fault
 */

export class Connection {
  /** @param {string} address @param {Events} events */
  constructor(address, events) {
    this.address = address;
    this.events = events;
    /** @type {?{kinds: string[], symbols: string[], intervals?: string[]}} */
    this.selection = null;
    this.books = false;
    /** @type {Cursor} */
    this.cursor = {};
    /** @type {?Cursor} the cursor from before what was left out, until it has been asked for */
    this.behind = null;
    this.attempts = 0;
    this.refill = 0;
    this.refilledAt = -Infinity;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.silence = 0;
    this.retry = 0;
    addEventListener("online", () => this.#now());
    document.addEventListener("visibilitychange", () => document.hidden || this.#now());
  }

  /** Follow another symbol or interval, and nothing else but its order book. @param {string} symbol @param {string} interval */
  follow(symbol, interval) {
    if (this.selection) this.#send({ op: "unsubscribe", ...this.selection });
    if (this.books && this.selection) this.#send({ op: "unsubscribe", kinds: ["books"], symbols: this.selection.symbols });
    this.selection = { symbols: [symbol], ...kindsOf(interval) };
    this.#forget();
    if (this.socket === null && this.retry === 0) this.#open();
    else this.#subscribe();
  }

  /** Follow the symbol's order book too, or no more. @param {boolean} wanted */
  followBook(wanted) {
    if (wanted === this.books) return;
    this.books = wanted;
    if (this.selection) this.#send({ op: wanted ? "subscribe" : "unsubscribe", kinds: ["books"], symbols: this.selection.symbols });
  }

  #forget() {
    this.cursor = {};
    this.behind = null;
    clearTimeout(this.refill);
    this.refill = 0;
  }

  #open() {
    this.retry = 0;
    this.events.state(this.attempts === 0 ? "connecting" : "reconnecting");
    const socket = new WebSocket(this.address);
    this.socket = socket;
    this.#listen();
    socket.onopen = () => this.#subscribe();
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.#take(JSON.parse(data));
    };
    socket.onclose = () => {
      if (socket === this.socket) this.#lost();
    };
  }

  #subscribe() {
    const limit = this.selection?.intervals ? SNAPSHOT_LIMIT.candles : SNAPSHOT_LIMIT.windows;
    const cursor = this.behind ?? this.cursor;
    this.behind = null;
    this.#send({ op: "subscribe", ...this.selection, limit, ...(Object.keys(cursor).length ? { cursor } : {}) });
    // Apart, so that it comes and goes without touching the rest.
    if (this.books && this.selection) this.#send({ op: "subscribe", kinds: ["books"], symbols: this.selection.symbols });
  }

  /** @param {Object} message */
  #send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {any} message */
  #take(message) {
    this.#listen();
    if (message.server_time) this.events.time(message.server_time);
    if (message.v !== PROTOCOL) return this.#foreign(message);
    if (message.type === "error") this.events.fault(`The server expected ${message.expected}, and got ${message.came}: ${message.do}.`);
    else if (message.type === "subscribed") this.#accepted(message);
    else if (message.type === "snapshot") this.#deliver([message], message.cursor, this.events.snapshot);
    else if (message.type === "update") this.#deliver(message.series, message.cursor, this.events.update);
  }

  /** @param {any} message of another version: heartbeats are, until the subscribe has arrived */
  #foreign(message) {
    if (message.type === "heartbeat") return;
    this.events.fault(`The server speaks version ${message.v} of the protocol, this page ${PROTOCOL}: reload the page.`);
  }

  /** @param {any} message */
  #accepted(message) {
    if (!message.symbols.every((/** @type {string} */ symbol) => this.selection?.symbols.includes(symbol))) return;
    this.attempts = 0;
    this.events.state("open");
    this.events.subscribed(message);
  }

  /** @param {Part[]} parts @param {Cursor | undefined} cursor @param {(part: Part) => void} deliver */
  #deliver(parts, cursor, deliver) {
    const ours = parts.filter((part) => this.#follows(part));
    for (const part of ours) deliver(part);
    // In an update that leaves records out the cursor is past them.
    if (ours.some((part) => part.conflated && part.kind !== "books")) this.#fallBehind();
    // What was under way when the selection changed must not move the new one's cursor.
    if (cursor && (ours.length || parts.length === 0)) this.cursor = { ...this.cursor, ...cursor };
  }

  /** @param {Part} part @returns {boolean} */
  #follows({ kind, symbol, interval }) {
    const { kinds, symbols, intervals } = this.selection ?? { kinds: [], symbols: [] };
    if (kind === "books") return this.books && symbols.includes(symbol);
    return kinds.includes(kind) && symbols.includes(symbol) && (!interval || (intervals ?? []).includes(interval));
  }

  #fallBehind() {
    this.behind ??= this.cursor;
    if (this.refill) return;
    const wait = Math.max(0, this.refilledAt + REFILL_WAIT_MS - performance.now());
    this.refill = setTimeout(() => this.#refillNow(), wait);
  }

  #refillNow() {
    this.refill = 0;
    this.refilledAt = performance.now();
    if (this.behind) this.#subscribe();
  }

  #listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.#lost(), SILENCE_MOST_MS);
  }

  #lost() {
    clearTimeout(this.silence);
    this.socket?.close();
    this.socket = null;
    this.attempts += 1;
    this.events.state("reconnecting");
    const wait = Math.min(WAIT_MOST_MS, WAIT_FIRST_MS * 2 ** (this.attempts - 1));
    // Jitter, so that the clients of a restarted server don't come back all at once.
    this.retry = setTimeout(() => this.#open(), wait * (0.5 + Math.random() / 2));
  }

  /** Don't wait any longer: the line or the reader is back. */
  #now() {
    if (this.retry === 0) return;
    clearTimeout(this.retry);
    this.#open();
  }
}

/** @param {string} interval @returns {{kinds: string[], intervals?: string[]}} what a view of this interval needs */
function kindsOf(interval) {
  if (interval === "windows") return { kinds: ["windows"] };
  return { kinds: ["candles", "provisional", "indicators", "signals"], intervals: [interval] };
}
