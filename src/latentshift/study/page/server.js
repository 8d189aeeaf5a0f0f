// Requests to the study's server. A request that does not get through is sent again until it does: all of them may be
// sent twice, the server answers the second as the first.

const LONGEST_WAIT = 30; // seconds between two tries
const PATIENCE = 20; // seconds for a reply

/** The server's reply to a request that it refuses; `status` is HTTP's. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sends requests, and tells `onTrouble(seconds)` before each wait for another try, `onTrouble(null)` when it is over. */
export class Server {
  #onTrouble;
  #wake = () => {};

  constructor(onTrouble) {
    this.#onTrouble = onTrouble;
    addEventListener("online", () => this.tryNow());
  }

  /** End the wait for another try. */
  tryNow() {
    this.#wake();
  }

  /** Post JSON and give the reply's, however long it takes; throws Refused. */
  async post(path, body = {}) {
    for (let tries = 0; ; tries++) {
      const reply = await this.#once(path, body);
      if (reply !== null) {
        if (tries) this.#onTrouble(null);
        return reply;
      }
      await this.#wait(Math.min(2 ** (tries + 1), LONGEST_WAIT));
    }
  }

  /** HTTP's status of a file, or null where the server can't be reached. */
  async statusOf(url) {
    try {
      return (await fetch(url, { method: "HEAD", signal: AbortSignal.timeout(PATIENCE * 1000) })).status;
    } catch {
      return null;
    }
  }

  async #once(path, body) {
    let response, value;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(PATIENCE * 1000),
      });
      const text = await response.text();
      value = text ? JSON.parse(text) : {};
    } catch {
      return null; // gone, slow, or something else answers in its place
    }
    if (response.ok) return value;
    if (response.status >= 500 || response.status === 408 || response.status === 429) return null;
    this.#onTrouble(null);
    throw new Refused(response.status, value.error ?? "");
  }

  async #wait(seconds) {
    const end = Date.now() + seconds * 1000;
    while (Date.now() < end) {
      this.#onTrouble(Math.ceil((end - Date.now()) / 1000));
      let woken = false;
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(1000, end - Date.now()));
        this.#wake = () => {
          woken = true;
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = () => {};
      if (woken) return;
    }
  }
}
