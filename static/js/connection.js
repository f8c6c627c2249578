/** The websocket: opens, subscribes, notices a broken line, and comes back by itself with its cursor. */

const PROTOCOL = 1;
const SILENCE_MOST_MS = 6000; // the server's heartbeat comes every two seconds
const WAIT_FIRST_MS = 250;
const WAIT_MOST_MS = 8000;
const REFILL_WAIT_MS = 10000; // a line that is too slow for updates must not be filled with snapshots

/**
 * @typedef {Object} Events
 * @property {(state: "connecting" | "open" | "reconnecting") => void} state
 * @property {(message: any) => void} snapshot
 * @property {(message: any) => void} update
 * @property {(serverTime: number) => void} time
 * @property {(text: string) => void} fault
 */

export class Connection {
  /** @param {string} address @param {Events} events */
  constructor(address, events) {
    this.address = address;
    this.events = events;
    this.symbol = "";
    /** @type {Object<string, number> | null} */
    this.cursor = null;
    this.attempts = 0;
    this.refillAt = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.silence = 0;
    this.retry = 0;
    addEventListener("online", () => this.#now());
    document.addEventListener("visibilitychange", () => document.hidden || this.#now());
  }

  /** Follow another symbol. @param {string} symbol */
  follow(symbol) {
    if (this.symbol) this.#send({ op: "unsubscribe", symbol: this.symbol });
    this.symbol = symbol;
    this.cursor = null;
    if (this.socket === null && this.retry === 0) this.#open();
    else this.#subscribe();
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
    const message = { op: "subscribe", symbol: this.symbol };
    this.#send(this.cursor ? { ...message, cursor: this.cursor } : message);
  }

  /** @param {Object} message */
  #send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {any} message */
  #take(message) {
    this.#listen();
    if (message.v !== PROTOCOL) {
      this.events.fault(`The server speaks version ${message.v} of the protocol, this page ${PROTOCOL}: reload the page.`);
      return;
    }
    if (message.server_time) this.events.time(message.server_time);
    if (message.type === "error") this.events.fault(`The server expected ${message.expected}, and got ${message.came}.`);
    if (message.type !== "snapshot" && message.type !== "update") return;
    if (message.symbol !== this.symbol) return; // one that was under way when the symbol changed
    this.attempts = 0;
    this.events.state("open");
    this.cursor = Object.keys(message.cursor).length ? message.cursor : null;
    if (message.type === "snapshot") this.events.snapshot(message);
    else this.events.update(message);
    if (message.conflated) this.#refill();
  }

  /** What was left out because this side was too slow is in the server's history. */
  #refill() {
    if (performance.now() < this.refillAt) return;
    this.refillAt = performance.now() + REFILL_WAIT_MS;
    this.cursor = null;
    this.#subscribe();
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
