let buffer = new ArrayBuffer(0);
let hasher = null;
let turn = Promise.resolve();
export function sha256(blob) {
  const mine = turn.then(() => digest(blob));
  turn = mine.catch(() => {});
  return mine;
}
async function digest(blob) {
  globalThis.at = 'read';
  const bytes = await read(blob);
  globalThis.at = 'digest';
  if (globalThis.crypto?.subtle) { const x= new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)); globalThis.at='idle'; return x;}
}
async function read(blob) {
  const reader = blob.stream().getReader({ mode: "byob" });
  if (buffer.byteLength < blob.size) buffer = new ArrayBuffer(blob.size);
  let at = 0;
  while (at < blob.size) {
    globalThis.at = 'read '+at;
    const { value, done } = await reader.read(new Uint8Array(buffer, at, blob.size - at));
    buffer = value.buffer;
    if (done) throw new DOMException("the file is shorter than it was", "NotReadableError");
    at += value.byteLength;
  }
  globalThis.at = 'cancel';
  await reader.cancel();
  return new Uint8Array(buffer, 0, at);
}
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
