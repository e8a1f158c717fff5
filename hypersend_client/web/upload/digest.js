// SHA-256 of Blobs, one after the other, by a worker that is replaced after every RENEWED_BYTES: the bytes it has read
// are left to its garbage collector, which lets hundreds of megabytes pile up, and a worker that ends takes them along.

const RENEWED_BYTES = 128 * 1024 * 1024;
const SILENT_MS = 60000;

let worker = null;
let hashed = 0;
let count = 0;
let turn = Promise.resolve();

/** 32 bytes. Rejects with a DOMException where the blob cannot be read. */
export function sha256(blob) {
  const mine = turn.then(() => ask(blob));
  turn = mine.catch(() => {});  // who asked hears of it; the next one begins either way
  return mine;
}

async function ask(blob) {
  if (!worker || hashed > RENEWED_BYTES) renew();
  hashed += blob.size;
  const n = count += 1;
  return new Promise((resolve, reject) => {
    const done = (outcome, value) => { clearTimeout(timer); outcome(value); };
    const fail = (name) => { worker.terminate(); worker = null; done(reject, new DOMException("the file cannot be read", name)); };
    const timer = setTimeout(() => fail("TimeoutError"), SILENT_MS);
    worker.onerror = () => fail("OperationError");
    worker.onmessage = ({ data }) => {
      if (data.n === n) data.error ? fail(data.error) : done(resolve, data.digest);
    };
    worker.postMessage({ n, blob });
  });
}

function renew() {
  worker?.terminate();
  worker = new Worker("/upload/hasher.js", { type: "module" });
  hashed = 0;
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
