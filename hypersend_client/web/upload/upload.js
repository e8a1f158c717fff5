// One file on its way: begin or find the upload, send what is missing, complete. No page and no storage in here.
//
// States: waiting, checking, uploading, offline (trying again), paused, finishing, done, failed, cancelled.

import { hex, sha256 } from "./digest.js";
import { Api, DirectChunks, Problem, ServerChunks, callMs, usualPatience } from "./transport.js";

const LANES = 4;
const IN_FLIGHT_BYTES = 64 * 1024 * 1024;
const MAX_WAIT_MS = 30000;
const SPEED_OVER_MS = 8000;
const SAME_CHUNK_TRIES = 4;
const MAX_LOSSES = 3;
const COMPLETE_TRIES = 5;
const SLOW_MS = 2000;

const stopped = (error) => error?.name === "AbortError";

export class Upload {
  /**
   * entry: {key, id, ticket} that an earlier page left for the same file, or null. remember(entry|null): keep it for
   * the next page. changed(): something that is shown has changed.
   */
  constructor({ file, ticket, chat, entry, remember, changed }) {
    Object.assign(this, { file, ticket, chat, entry, remember, changed });
    this.state = "waiting";
    this.problem = null;
    this.done = 0;               // bytes with a receipt
    this.flying = new Map();     // chunk → bytes of it that have gone
    this.samples = [];
    this.troubles = 0;           // in a row
    this.patience = usualPatience();
  }

  get sent() {
    let sent = this.done;
    for (const bytes of this.flying.values()) sent += bytes;
    return Math.min(sent, this.file.size);
  }

  /** Bytes a second over the last seconds; 0 while nothing can be said. */
  get speed() {
    const now = performance.now();
    this.samples.push([now, this.sent]);
    while (this.samples.length > 2 && now - this.samples[0][0] > SPEED_OVER_MS) this.samples.shift();
    const [then, before] = this.samples[0];
    return now - then > 500 ? Math.max(0, (this.sent - before) * 1000 / (now - then)) : 0;
  }

  /** Until it is done, paused, cancelled or failed. Called again, it goes on. */
  async run() {
    this.problem = null;
    this.samples = [];
    try {
      for (let losses = 0; ; losses += 1) {
        try {
          await this.runOnce();
          break;
        } catch (error) {
          if (error.code !== "upload_lost" || losses >= MAX_LOSSES) throw error;
          await this.dropLost();
        }
      }
      this.remember(null);
      this.done = this.file.size;
      this.set("done");
    } catch (error) {
      this.flying.clear();
      if (stopped(error)) return;
      this.problem = error instanceof Problem ? error : new Problem("unreadable");
      if (["not_found", "upload_expired", "upload_lost", "chunk_conflict"].includes(this.problem.code)) this.remember(this.entry = null);
      this.set("failed");
    }
  }

  async runOnce() {
    this.stop = new AbortController();
    this.set("checking");
    await this.begin();
    for (let tries = 0; !this.isStored; tries += 1) {
      if (tries >= COMPLETE_TRIES) throw new Problem("chunks_missing");  // the server loses some each time
      if (tries) await this.rest(tries, { retryAfterS: 0 });
      this.set("uploading");
      await this.sendMissing();
      this.set("finishing");
      if (await this.complete()) break;
    }
  }

  /** The object store lost what had been sent: the same file begins again, and what the first try reserved is given back. */
  async dropLost() {
    this.flying.clear();
    this.done = 0;
    const id = this.id ?? this.entry?.id;
    if (id) {
      try { await this.api.call("DELETE", `/${id}`); } catch (error) { if (!(error instanceof Problem)) throw error; }
    }
    this.remember(this.entry = null);
  }

  pause() { this.halt("paused"); }

  async cancel() {
    const id = this.id;
    this.halt("cancelled");
    this.remember(null);
    if (id) {
      try { await this.api.call("DELETE", `/${id}`); } catch (error) { if (!(error instanceof Problem)) throw error; }
    }
  }

  /** The network is back: don't wait any longer. */
  wake() { this.hurry?.(); }

  halt(state) {
    this.stop?.abort(new DOMException(state, "AbortError"));
    this.flying.clear();
    this.set(state);
  }

  set(state) {
    if (this.state === "cancelled") return;
    this.state = state;
    this.changed();
  }

  // beginning

  async begin() {
    let entry = this.entry;
    const body = {
      name: this.file.name, size: this.file.size, ...(/^[\w.+-]+\/[\w.+-]+$/.test(this.file.type) && { mime: this.file.type }),
      ...(this.chat && { chat_id: this.chat }),
    };
    const init = (key) => this.patiently((ms) => new Api(this.ticket).call(
      "POST", "/init", { json: body, headers: { "Idempotency-Key": key }, signal: this.stop.signal, ms }));
    const anew = () => {
      this.remember(this.entry = entry = { key: hex(crypto.getRandomValues(new Uint8Array(16))), ticket: this.ticket });
      return init(entry.key);
    };
    this.id = null;
    let file;
    if (this.entry) {
      try {
        file = await init(entry.key);
      } catch (error) {
        if (error.code !== "idempotency_conflict" && error.code !== "not_found") throw error;
        file = await anew();
      }
      // What an earlier link began may answer to that link only; where that one is too old, it is begun anew.
      if (file.state !== "complete" && !await this.find(file.id, new Set([this.ticket, entry.ticket]))) file = await anew();
    } else {
      file = await anew();
    }
    this.isStored = file.state === "complete";
    if (!this.id) {
      this.api = new Api(this.ticket);
      this.id = file.id;
      this.adopt(file);
    }
    this.remember(this.entry = { ...entry, id: this.id, ticket: this.api.ticket });
    const server = new ServerChunks(this.api, this.id);
    this.chunks = this.isDirect ? new DirectChunks(this.api, this.id, server) : server;
  }

  async find(id, tickets) {
    for (const ticket of tickets) {
      this.api = new Api(ticket);
      try {
        this.adopt(await this.ask(id));
        this.id = id;
        return true;
      } catch (error) {
        if (error.code !== "not_found" && error.status !== 401) throw error;
      }
    }
    return false;
  }

  ask(id = this.id) {
    return this.patiently((ms) => this.api.call("GET", `/${id}`, { signal: this.stop.signal, ms }));
  }

  /** What the server has, as it says. */
  adopt(file) {
    this.isComplete = file.state !== "uploading";
    const upload = file.upload;
    if (!upload) return;
    this.chunkSize = upload.chunk_size;
    this.isDirect = Boolean(upload.direct);
    this.done = upload.received_bytes;
    this.partial = new Map(upload.partial);
    this.verifying = upload.verifying.length > 0;
    const there = new Uint8Array(upload.chunk_count);
    for (const [first, last] of [...upload.received, ...upload.verifying]) there.fill(1, first, last + 1);
    this.there = there;
  }

  // chunks

  async sendMissing() {
    if (this.isComplete || !this.there) return;
    const missing = [];
    this.there.forEach((is, index) => { if (!is) missing.push(index); });
    const lanes = Math.max(1, Math.min(LANES, Math.floor(IN_FLIGHT_BYTES / this.chunkSize)));
    const lane = async () => {
      for (let index; (index = missing.shift()) !== undefined;) await this.sendChunk(index);
    };
    const running = Array.from({ length: lanes }, lane);
    try {
      await Promise.all(running);
    } catch (error) {
      if (!stopped(error)) this.stop.abort(new DOMException("failed", "AbortError"));  // the other lanes
      await Promise.allSettled(running);
      throw error;
    }
  }

  async sendChunk(index) {
    const start = index * this.chunkSize;
    const chunk = this.file.slice(start, Math.min(start + this.chunkSize, this.file.size));
    const digest = await sha256(chunk);
    let tries = 0, isUnsure = false, told = -1;
    while (!this.there[index] && !this.isComplete) {
      const { signal } = this.stop;
      signal.throwIfAborted();
      // After a cut the server may still be reading what nobody sends any more, and count none of it. The chunk's end,
      // which has no bytes, makes it leave that and say how far it came.
      const offset = isUnsure ? chunk.size : Math.min(this.partial.get(index) ?? 0, chunk.size);
      let gone = 0;
      try {
        this.flying.set(index, Math.min(this.partial.get(index) ?? 0, chunk.size));
        const receipt = await this.chunks.put(index, offset, chunk.slice(offset), digest, {
          signal, patience: this.patience, progress: (bytes) => this.flying.set(index, offset + (gone = bytes)),
        });
        if (receipt.sha256 !== hex(digest)) throw new Problem("chunk_conflict");
        this.there[index] = 1;
        this.done += chunk.size;
        this.troubles = 0;
        this.patience.silent.less();
        this.patience.answer.less();
      } catch (error) {
        if (stopped(error)) throw error;
        if (error.code === "chunk_offset") {
          const have = error.extra.have ?? 0;
          this.partial.set(index, have);
          isUnsure = false;
          if (have > told) {
            told = have;
            if (have) this.troubles = 0;
          } else if (have !== offset) {
            await this.recover(error);  // what was sent since then did not arrive
          }
          if (have !== offset) continue;
        } else if (error.code === "digest_mismatch") {
          this.partial.delete(index);
        } else if (error.code === "upload_closed") {
          this.isComplete = true;  // another page was quicker
          continue;
        } else if (error.retryable && error.code !== "storage_full") {
          if (error.hadGone) this.patience.answer.more();
          isUnsure ||= gone > 0 && this.chunks.keeps(index);
          await this.recover(error);
          continue;
        } else {
          throw error;
        }
        if ((tries += 1) >= SAME_CHUNK_TRIES) throw new Problem("unreadable");
      } finally {
        this.flying.delete(index);
      }
      this.changed();
    }
  }

  /** After trouble: wait, all lanes together, until the server answers, and take over what it has. */
  recover(error) {
    this.recovering ??= (async () => {
      try {
        await this.rest(this.troubles, error);
        this.troubles += 1;
        this.adopt(await this.ask());
        // A line on which all is slow needs time; one that answers at once had lost what fell silent.
        if (error.isSilence && this.api.answerMs > SLOW_MS) this.patience.silent.more();
        this.set("uploading");
      } finally {
        this.recovering = null;
      }
    })();
    return this.recovering;
  }

  async complete() {
    try {
      for (let tries = 0; ; tries += 1) {
        const file = await this.patiently((ms) => this.api.call(
          "POST", `/${this.id}/complete`, { signal: this.stop.signal, ms }));
        if (file.state === "complete") return true;
        await this.rest(tries, { retryAfterS: 0 });  // an object store puts it together
      }
    } catch (error) {
      if (error.code !== "chunks_missing") throw error;
      this.adopt(await this.ask());
      return false;
    }
  }

  // patience

  /** Repeat work(ms) that may succeed later, for as long as it takes. */
  async patiently(work) {
    const before = this.state;
    for (let tries = 0; ; tries += 1) {
      try {
        const result = await work(callMs(tries));
        if (this.state === "offline") this.set(before === "offline" ? "uploading" : before);
        return result;
      } catch (error) {
        if (stopped(error) || !error.retryable || error.code === "storage_full") throw error;
        await this.rest(tries, error);
      }
    }
  }

  async rest(tries, error) {
    if (error.code === "network" || error.status >= 500) this.set("offline");
    const { signal } = this.stop;
    const wait = Math.max(Math.min(MAX_WAIT_MS, 500 * 2 ** tries) * (0.5 + Math.random() / 2), error.retryAfterS * 1000);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.hurry = () => { clearTimeout(timer); resolve(); };
      signal.addEventListener("abort", this.hurry, { once: true });
    });
    signal.throwIfAborted();
  }
}
